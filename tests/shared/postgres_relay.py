"""A connection pooler in transaction mode that passes on the server's own keys: two sessions for all clients."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading

import psycopg

_REPORTED = ("server_version", "server_encoding", "client_encoding", "standard_conforming_strings", "integer_datetimes")


def _read(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (more := stream.recv(count - len(data))):
            raise ConnectionError
        data += more
    return data


def _message(stream: socket.socket) -> tuple[bytes, bytes]:
    kind, length = struct.unpack("!cI", _read(stream, 5))
    return kind, _read(stream, length - 4)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


class Relay:
    """``url``: the address through it. ``sessions``: those of the server."""

    def __init__(self, url: str) -> None:
        self.sessions = [psycopg.connect(url, autocommit=True) for _ in range(2)]
        self._free: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for session in self.sessions:
            raw = socket.socket(fileno=os.dup(session.fileno()))
            raw.setblocking(True)
            self._free.put(raw)
        self._listening = socket.create_server(("127.0.0.1", 0))
        name = self.sessions[0].info.dbname
        self.url = f"postgresql://postgres@127.0.0.1:{self._listening.getsockname()[1]}/{name}?sslmode=disable"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listening.close()
        for session in self.sessions:
            session.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listening.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            (length,) = struct.unpack("!I", _read(client, 4))
            _read(client, length - 4)
            info = self.sessions[0].info
            parameters = [_packed(b"S", f"{key}\0{info.parameter_status(key)}\0".encode()) for key in _REPORTED]
            key = struct.pack("!II", info.backend_pid, 4711)
            client.sendall(_packed(b"R", bytes(4)) + b"".join(parameters) + _packed(b"K", key) + _packed(b"Z", b"I"))
            while (first := _message(client))[0] != b"X":
                session = self._free.get()
                try:
                    self._transaction(client, session, first)
                finally:
                    self._free.put(session)

    def _transaction(self, client: socket.socket, session: socket.socket, message: tuple[bytes, bytes]) -> None:
        """Until the server reports that it is in no transaction."""
        while True:
            session.sendall(_packed(*message))
            if message[0] in (b"Q", b"S"):
                while True:
                    answer = _message(session)
                    client.sendall(_packed(*answer))
                    if answer[0] == b"Z":
                        break
                if answer[1] == b"I":
                    return
            message = _message(client)
