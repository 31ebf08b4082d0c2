"""Prefect's embedded server: it answers only the command that started it, and many may start at the same time."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

RUN = """
import sys
from scriptorium.server.prefect_api import api
with api():
    from prefect import flow
    from prefect.settings import PREFECT_API_URL
    print(PREFECT_API_URL.value(), flush=True)
    sys.stdin.read()
    flow(lambda: None, name="small")()
"""
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that has an embedded server; it ends when its standard input ends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCRIPTORIUM"))}
    started: list[subprocess.Popen[str]] = []

    def begin(home: Path, **more: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", RUN],
            env={**kept, "PREFECT_HOME": str(home), **QUIET, **more},
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def servers_of(command: subprocess.Popen[str]) -> list[psutil.Process]:
    return [child for child in psutil.Process(command.pid).children() if "embedded_server" in " ".join(child.cmdline())]


def test_it_answers_only_its_command(start: Start, prefect_home: Callable[[Path], Path], tmp_path: Path) -> None:
    """To read or set states, also by the event stream, needs a password that is in no argument and in no file."""
    home = prefect_home(tmp_path / "prefect")
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('a module of the working directory was imported')")
    command = start(home)
    assert command.stdout is not None
    url = command.stdout.readline().strip()
    assert status(f"{url}/health") == 200
    for headers in ({}, {"Authorization": "Basic c2NyaXB0b3JpdW06"}, {"Authorization": "Bearer x"}):
        assert status(f"{url}/admin/version", **headers) == 401
    with pytest.raises(ConnectionError):
        _read_the_events_of_others(url)

    (server,) = servers_of(command)
    password = server.environ()["PREFECT_SERVER_API_AUTH_STRING"]
    assert len(password) > 40
    assert password not in " ".join(server.cmdline() + psutil.Process(command.pid).cmdline())
    assert stat.S_IMODE(Path(f"/proc/{server.pid}/environ").stat().st_mode) == 0o400
    printed = command.communicate("", timeout=120)
    assert command.returncode == 0, printed
    assert password not in "".join(printed)
    assert not [file for file in home.rglob("*") if file.is_file() and password.encode() in file.read_bytes()]
    with contextlib.closing(sqlite3.connect(home / "prefect.db")) as history:
        assert history.execute("SELECT state_type FROM flow_run").fetchall() == [("COMPLETED",)]


def _read_the_events_of_others(url: str) -> None:
    """What a stranger's client does: it opens the stream and sends a wrong password."""
    import asyncio

    import websockets

    async def ask() -> None:
        address = url.replace("http", "ws") + "/events/out"
        try:
            async with websockets.connect(address, subprotocols=[websockets.Subprotocol("prefect")]) as stream:
                await stream.send('{"type": "auth", "token": "scriptorium:"}')
                await asyncio.wait_for(stream.recv(), 20)
        except websockets.WebSocketException as error:
            raise ConnectionError from error

    asyncio.run(ask())


@pytest.mark.parametrize("many", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_many_may_begin_at_once_on_a_new_home(start: Start, tmp_path: Path, many: int) -> None:
    """One of them is killed while it brings the database up to date; the others do not wait for it."""
    home = tmp_path / "new" / "prefect"
    killed = start(home)
    until = time.monotonic() + 120
    while not (home / "prefect.db").exists():
        assert time.monotonic() < until and killed.poll() is None
        time.sleep(0.05)
    others = [start(home) for _ in range(many)]
    killed.send_signal(signal.SIGKILL)
    for other in others:
        out, err = other.communicate("", timeout=1000)
        printed = [line for line in err.splitlines() if "Still processing items" not in line]
        assert (other.returncode, printed) == (0, []) and out.startswith("http://127.0.0.1:"), err[-3000:]
    with contextlib.closing(sqlite3.connect(home / "prefect.db")) as history:
        assert history.execute("SELECT state_type FROM flow_run").fetchall() == [("COMPLETED",)] * many
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    wrong = [file for file in home.glob("prefect.db*") if stat.S_IMODE(file.stat().st_mode) != 0o600]
    assert wrong == []
