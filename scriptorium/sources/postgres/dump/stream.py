"""A dump of one snapshot that is written directly into an archive, in pieces: one piece at a time is in memory.

The fingerprints are taken in a separate thread while the dump is read. Only the head of the dump is written to the
disk, until its table of contents has been read.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from scriptorium import process
from scriptorium.errors import SourceUnavailable, ToolFailed
from scriptorium.failpoints import reach
from scriptorium.members import Piece
from scriptorium.model import TableFingerprint
from scriptorium.sources.postgres.connection import Address
from scriptorium.sources.postgres.dump.contents import contents_of_head, require_tables, sequence_values
from scriptorium.sources.postgres.dump.directory import (
    PART,
    DumpRecord,
    FailureCheck,
    described,
    dumping,
    empty,
    file_name,
    save_globals,
)
from scriptorium.sources.postgres.dump.pieces import piece_name
from scriptorium.sources.postgres.dump.snapshot import DumpOptions, Snapshot, SnapshotContents, held
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.stall_watch import Transfer

log = logging.getLogger(__name__)

_PIPE = -1  # subprocess.PIPE
_PIPE_BYTES = 1 << 20  # fewer and longer reads than with the system's own 64 KiB
_HEAD = 1 << 20
_END = bytes(5)  # how the data of a table ends in the custom format: a block of no bytes
_LOOK = 500  # milliseconds until the fingerprints are checked for an error again
_CANCEL_SECONDS = 10  # for the server to stop a scan whose result is no longer needed


class DumpStream:
    """A dump that is being read. ``record``: its properties so far; ``ended``: whether the record is complete."""

    def __init__(
        self,
        snapshot: Snapshot,
        output: int,
        transfer: Transfer,
        seen: Future[SnapshotContents],
        warnings: tuple[str, ...],
        stage: Path,
        open_: contextlib.ExitStack,
    ) -> None:
        self.name = file_name(snapshot.database)
        self.record: DumpRecord = described(snapshot, streamed=True)
        self.ended = False
        self._snapshot = snapshot
        self._output = output
        self._transfer = transfer
        self._seen = seen
        self._warnings = warnings
        self._head = _Head(stage / "head", snapshot)
        self._open = open_

    def pieces(self) -> Generator[Piece, None, None]:
        """Every piece. After the last one pg_dump has succeeded, no table is missing, and the session is closed."""
        buffer = memoryview(bytearray(self._snapshot.options.piece))
        number, last = 0, b""
        self._transfer.waiting = True
        while used := self._filled(buffer):
            number += 1
            piece = buffer[:used]
            self._head.add(piece)
            last = (last + bytes(piece[-len(_END) :]))[-len(_END) :]
            reach("stream.piece")
            self._transfer.waiting = False  # a store may be slow
            yield piece_name(number), piece
            self._transfer.waiting = True
        seen = self._seen.result()
        reach("stream.ended")
        self._open.close()  # an error of pg_dump is raised here
        sequences = self._head.sequences(last)
        self.record = self.record.completed(self._snapshot, seen, sequences, self._warnings)
        self.ended = True
        log.info("%s: the stream of the dump ended after %d pieces", self._snapshot.database, number)

    def _filled(self, buffer: memoryview) -> int:
        """Read until the buffer is full or the dump ends; returns the bytes."""
        used = 0
        ready = select.poll()
        ready.register(self._output, select.POLLIN)
        while used < len(buffer):
            if self._seen.done():
                self._seen.result()  # an error is raised now, not at the end of the dump
            if ready.poll(_LOOK):
                count = os.readv(self._output, [buffer[used:]])
                if not count:
                    break
                used += count
                self._transfer.count += count
        return used


class _Head:
    """The beginning of the dump, until its table of contents is complete. Every table must be in that."""

    def __init__(self, file: Path, snapshot: Snapshot) -> None:
        self._file = file
        self._snapshot = snapshot
        self._found: dict[tuple[str, str], TableFingerprint] | None = None
        self._rows = False

    def add(self, piece: memoryview) -> None:
        """Add as much of the next piece as is still needed."""
        while self._found is None and piece:
            with self._file.open("ab") as file:
                count = max(_HEAD, file.tell())
                file.write(piece[:count])
            piece = piece[count:]
            self._look()

    def _look(self) -> None:
        entries = contents_of_head(self._file, self._snapshot.restorer)
        if entries is None:
            return
        self._rows = bool(require_tables(entries, self._snapshot.tables))
        self._found = dict(sequence_values(self._file, self._snapshot.restorer, entries))
        self._file.unlink()

    def sequences(self, last: bytes) -> dict[tuple[str, str], TableFingerprint]:
        """The sequences of a dump that ended with the bytes ``last``. ``ToolFailed`` if it ended early."""
        if self._found is None:
            raise ToolFailed(
                "the dump ended early: its table of contents is not complete", on=str(self._snapshot.address)
            )
        if self._rows and last != _END:
            raise ToolFailed(
                "the dump ended early: the data of a table is not complete", on=str(self._snapshot.address)
            )
        return self._found


@contextlib.contextmanager
def streaming(address: Address, stage: Path, options: DumpOptions) -> Iterator[DumpStream]:
    """Hold a snapshot and start its dump; ``stage`` is an empty folder for small files.

    It then contains ``part/`` with an empty folder for the pieces, and ``globals.sql``. After an error nothing is left:
    no process, no thread, no session, no file.
    """
    try:
        with contextlib.ExitStack() as open_:
            snapshot = open_.enter_context(held(address, options))
            part = stage / PART
            (part / file_name(snapshot.database)).mkdir(parents=True, mode=0o700)
            command, transfer = snapshot.command("--format=custom"), Transfer()
            child = open_.enter_context(dumping(snapshot, command, stage, transfer, stdout=_PIPE))
            seen = open_.enter_context(_fingerprinting(snapshot, child))
            log.info("%s: the dump is streamed into the archive", snapshot.database)
            reach("stream.begun")
            stream = DumpStream(snapshot, _output(child), transfer, seen, save_globals(snapshot, part), stage, open_)
            yield stream
            if not stream.ended:
                raise ToolFailed("the dump was not read to its end", on=str(address))
    except BaseException:
        empty(stage)
        raise


def _output(child: process.Child) -> int:
    assert child.stdout is not None
    with contextlib.suppress(OSError):  # a larger pipe is only faster
        fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return child.stdout.fileno()


@contextlib.contextmanager
def _fingerprinting(snapshot: Snapshot, child: process.Child) -> Iterator[Future[SnapshotContents]]:
    """Take the fingerprints while the block runs. If the block is left before they are complete, they are cancelled."""
    over = threading.Event()
    require_running = FailureCheck(child)

    def between(table: str) -> None:
        require_running(table)
        if over.is_set():
            raise SourceUnavailable("cancelled", on=table)

    def look() -> SnapshotContents:
        with translating_errors(snapshot.address, secrets=snapshot.address.secrets):
            return snapshot.read(between)

    with ThreadPoolExecutor(1, "fingerprints") as pool:
        seen = pool.submit(look)
        try:
            yield seen
        finally:
            over.set()
            _stop_scan(seen, snapshot)


def _stop_scan(seen: Future[SnapshotContents], snapshot: Snapshot) -> None:
    """Cancel the scan on the server and wait for the thread. If the server does not react, cut the connection."""
    until = time.monotonic() + _CANCEL_SECONDS
    while not seen.done():
        with contextlib.suppress(Exception):  # it is tried again
            snapshot.session.cancel_safe(timeout=2.0)
        wait([seen], 0.3)
        if time.monotonic() > until:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(snapshot.session.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
