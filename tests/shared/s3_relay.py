"""An HTTP relay in front of a real S3 server: it passes on what it receives, and imitates the troubles of a network."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """What arrived: ``path`` with its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """``cut``: only so many bytes of the body are sent; then the connection is closed."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None


def error(status: int, code: str, message: str = "") -> Answer:
    document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message or code}</Message></Error>"
    return Answer(status, {"Content-Type": "application/xml"}, document.encode())


Trouble = Callable[[Request], Answer | None]  # ``None``: the server is asked
After = Callable[[Request, Answer], Answer]


@dataclass
class Relay:
    """``trouble`` may answer instead of the server, ``after`` may change its answer. ``seen``: all requests that
    arrived."""

    upstream: str
    trouble: Trouble = lambda _: None
    after: After = lambda _, answer: answer
    seen: list[Request] = field(default_factory=list)
    certificate: Path | None = None  # with its key in the same file: then it talks TLS

    def __post_init__(self) -> None:
        relay = self
        self._stopped = False

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self) -> None:
                relay._serve(self)

            def handle_expect_100(self) -> bool:
                going_on = super().handle_expect_100()
                self.wfile.flush()
                return going_on

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                pass  # a client that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def count(self, method: str, part: str = "") -> int:
        return sum(request.method == method and part in request.path for request in self.seen)

    def stop(self) -> None:
        """Stop listening; connections that are open break at their next request."""
        self._stopped = True
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        request = Request(handler.command, handler.path, dict(handler.headers.items()), body)
        if self._stopped:
            handler.close_connection = True
            return
        self.seen.append(request)
        answer = self.trouble(request) or self.after(request, self._asked(request))
        self._send(handler, request, answer)

    def _asked(self, request: Request) -> Answer:
        host = self.upstream.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in _HOP and name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def _send(self, handler: Any, request: Request, answer: Answer) -> None:
        handler.send_response(answer.status)
        length = answer.headers.get("Content-Length") if request.method == "HEAD" else str(len(answer.body))
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "date", "server"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", length or "0")
        handler.end_headers()
        if request.method != "HEAD":
            handler.wfile.write(answer.body[: answer.cut])
        handler.wfile.flush()
        if answer.cut is not None:
            handler.close_connection = True
            handler.connection.close()
