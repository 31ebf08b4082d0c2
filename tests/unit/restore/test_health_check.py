"""Health checks: real small servers, started, asked and stopped like an application."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scriptorium.errors import RestoreFailed
from scriptorium.restore import health_check
from scriptorium.restore.health_check import answering, require_healthy
from scriptorium.settings import HealthCheck

Serve = Callable[[list[int]], str]

_START = """
import pathlib, subprocess, sys
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
server = subprocess.Popen([sys.executable, "-m", "http.server", sys.argv[1], "--bind", "127.0.0.1"], **quiet)
pathlib.Path(sys.argv[2]).write_text(str(server.pid))
"""
_STOP = "import os, sys; os.kill(int(open(sys.argv[1]).read()), 15); os.unlink(sys.argv[1])"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that gives these answers in turn, the last one again and again; returns its address."""
    with contextlib.ExitStack() as stack:

        def start(answers: list[int]) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
                    self.end_headers()

                def log_message(self, *_: object) -> None: ...

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}/health"

        yield start


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unwell(check: HealthCheck) -> str:
    with pytest.raises(RestoreFailed) as caught:
        require_healthy(check)
    assert "put back" in caught.value.hint
    return str(caught.value)


def test_an_address_that_answers_is_well(serve: Serve) -> None:
    require_healthy(HealthCheck(url=serve([200]), within=5))


def test_one_that_needs_a_while_is_asked_again(serve: Serve) -> None:
    require_healthy(HealthCheck(url=serve([503, 200]), within=5))


def test_an_application_that_stays_unwell_is_stopped_and_its_last_answer_reported(serve: Serve, tmp_path: Path) -> None:
    url, stopped = serve([500, 503]), tmp_path / "stopped"
    message = unwell(HealthCheck(url=url, within=0.2, stop=("touch", str(stopped))))
    assert url in message and "503" in message and stopped.exists()


def test_a_command_and_an_address_must_both_be_content(serve: Serve) -> None:
    assert "false" in unwell(HealthCheck(url=serve([200]), command=("false",), within=0.2))
    assert "404" in unwell(HealthCheck(url=serve([404]), command=("true",), within=0.2))


def test_no_server_answers(free_port: int) -> None:
    assert "refused" in unwell(HealthCheck(url=f"http://127.0.0.1:{free_port}/", within=0.2))


@pytest.mark.parametrize("words", [b"not HTTP at all\r\n\r\n", None], ids=["another protocol", "never a word"])
def test_what_answers_is_no_application(words: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listening.accept()[0])
                    if words is not None:
                        kept[-1].sendall(words)

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        began = time.monotonic()
        assert url in unwell(HealthCheck(url=url, within=0.3))
        assert time.monotonic() - began < 3, "it is not waited for longer than was asked"
        listening.shutdown(socket.SHUT_RDWR)
        for one in kept:
            one.close()


def application(port: int, file: Path) -> dict[str, object]:
    """``start`` and ``stop`` as a service has them: the command ends, the application stays."""
    return {
        "url": f"http://127.0.0.1:{port}/",
        "start": (sys.executable, "-c", _START, str(port), str(file)),
        "stop": (sys.executable, "-c", _STOP, str(file)),
    }


def test_the_application_is_started_and_stays(free_port: int, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    try:
        require_healthy(HealthCheck(**application(free_port, file), within=20))  # type: ignore[arg-type]
        assert file.exists(), "one that is well is not stopped"
        os.kill(int(file.read_text()), 0)
    finally:
        os.kill(int(file.read_text()), signal.SIGKILL)


def test_an_application_that_was_started_and_is_not_well_is_stopped(free_port: int, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    given = application(free_port, file)
    unwell(HealthCheck(**given | {"command": ("false",)}, within=0.2))  # type: ignore[arg-type]
    assert not file.exists()
    with pytest.raises(ConnectionRefusedError):
        for _ in range(100):  # a signal takes a moment to end it
            socket.create_connection(("127.0.0.1", free_port), 2).close()
            time.sleep(0.05)


def test_a_start_that_fails_is_reported_and_the_application_stopped(serve: Serve, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    check = HealthCheck(url=serve([200]), start=("sh", "-c", "echo no such unit >&2; exit 5"), within=0.3,
                        stop=("sh", "-c", f"touch {stopped}; exit 1"))  # fmt: skip
    message = unwell(check)
    assert "status 5" in message and "no such unit" in message and stopped.exists()
    check = HealthCheck(url=serve([503]), within=0.1, stop=("no-such-program",))
    assert "503" in unwell(check), "the error names why it is not well, not that it could not be stopped"


_IN_THE_BACKGROUND = 'nohup "$1" -m http.server "$2" --bind 127.0.0.1 & echo $! > "$3"'


@pytest.mark.parametrize("well", [True, False])
def test_a_start_may_leave_the_application_running(free_port: int, tmp_path: Path, well: bool) -> None:
    """As ``nohup app &`` does, without closing its output: it keeps running, unless it is unwell."""
    number = tmp_path / "pid"
    words = ("sh", "-c", _IN_THE_BACKGROUND, "sh", sys.executable, str(free_port), str(number))
    check = HealthCheck(url=f"http://127.0.0.1:{free_port}/{'' if well else 'no-such-page'}", start=words, within=4)
    began = time.monotonic()
    if not well:
        assert "404" in unwell(check)
        assert ended(int(number.read_text()))
        return
    require_healthy(check)
    assert time.monotonic() - began < 4
    process = int(number.read_text())
    try:
        assert not ended(process)
    finally:
        os.kill(process, signal.SIGTERM)


def ended(process: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True


def test_a_start_that_does_not_end_is_killed_and_reported(tmp_path: Path) -> None:
    assert "did not end within 1 s" in unwell(HealthCheck(command=("true",), start=("sleep", "60"), within=1))
    assert "no such thing" in unwell(
        HealthCheck(command=("true",), start=("sh", "-c", "echo no such thing >&2; exit 3"), within=5)
    )


@pytest.mark.parametrize(("status", "runs"), [(200, True), (404, True), (500, True), (502, False), (503, False)])
def test_an_application_that_answers_is_running_and_a_proxy_without_one_is_not(
    serve: Serve, status: int, runs: bool
) -> None:
    assert bool(answering(HealthCheck(url=serve([status])))) == runs


def test_one_that_leads_elsewhere_has_answered_unless_a_proxy_answers_there(serve: Serve, free_port: int) -> None:
    """A name of an outside network may be unreachable from here: the application still runs."""

    class Elsewhere(BaseHTTPRequestHandler):
        to = ""

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", self.to)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        check = HealthCheck(url=f"http://127.0.0.1:{server.server_address[1]}/")
        places = {f"http://127.0.0.1:{free_port}/": True, serve([200]): True, serve([503]): False, "/again": True}
        for Elsewhere.to, runs in places.items():
            assert bool(answering(check)) == runs, Elsewhere.to
        server.shutdown()


def test_an_application_that_takes_the_connection_alone_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "_ASKED_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"http://127.0.0.1:{busy.getsockname()[1]}/"
        assert "takes connections" in answering(HealthCheck(url=address))
    assert answering(HealthCheck(url=address)) == "" == answering(HealthCheck(command=("true",)))
