"""The command and Prefect: the API goes away during a backup, or the command does, and its embedded server with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium.failpoints import VARIABLE

BIN = Path(sys.executable).parent


def clean() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCRIPTORIUM"))}
    return {**kept, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Prefect server of our own, which the test may kill."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    with (tmp_path / "server.log").open("wb") as log:
        child = subprocess.Popen(
            [BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env={**clean(), "PREFECT_HOME": str(tmp_path / "server")},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 180
        while True:
            try:
                if urllib.request.urlopen(f"{url}/health", timeout=2).status == 200:
                    break
            except OSError:
                assert time.monotonic() < until and child.poll() is None
                time.sleep(0.2)
        yield child, url
    finally:
        kill(child)


def kill(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow  # Prefect's client tries again for more than a minute
def test_the_api_is_gone_in_the_middle(rig: Any, server: tuple[subprocess.Popen[bytes], str], tmp_path: Path) -> None:
    running, url = server
    gate = tmp_path / "gate"
    environment = {
        **clean(),
        "PREFECT_API_URL": url,
        "PREFECT_CLIENT_MAX_RETRIES": "1",  # the command's default is 2; each takes seconds, about twelve times
        "PREFECT_HOME": str(tmp_path / "command"),
        "SCRIPTORIUM_CONFIG": str(rig.place.config),
        VARIABLE: json.dumps({"take.before-pack": f"wait:{gate}"}),
    }
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command = subprocess.Popen([BIN / "scriptorium", "create", "--json"], env=environment, stdout=out, stderr=err)
    try:
        wait_until(lambda: Path(f"{gate}.here").exists() or command.poll() is not None, 120)
        assert command.poll() is None, (tmp_path / "err").read_text()
        kill(running)
        gate.touch()
        assert command.wait(180) == 0, (tmp_path / "err").read_text()[-2000:]
    finally:
        command.kill()
    shown = json.loads((tmp_path / "out").read_text())
    assert shown["status"] == "verified"
    assert "could not be reported to Prefect" in (tmp_path / "err").read_text()
    assert {(shown["id"], "local"), (shown["id"], "second")} <= rig.copies()
    rig.require_sound()
    rig.require_tidy()


@pytest.mark.parametrize(
    ("number", "to_all", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 130), (signal.SIGKILL, False, -signal.SIGKILL)],
    ids=["Ctrl-C", "SIGTERM", "SIGKILL"],
)
def test_a_command_that_is_ended_takes_the_embedded_server_with_it(
    rig: Any,
    tmp_path: Path,
    prefect_home: Callable[[Path], Path],
    children_of: Callable[[str], list[str]],
    number: signal.Signals,
    to_all: bool,
    code: int,
) -> None:
    """A terminal signals every process of the group; ``kill`` and cron's ``timeout`` signal only the command."""
    gate, mark = tmp_path / "gate", str(tmp_path)
    environment = {
        **clean(),
        "PREFECT_HOME": str(prefect_home(tmp_path / "command")),
        "SCRIPTORIUM_CONFIG": str(rig.place.config),
        "SCRIPTORIUM_TEST_MARK": mark,
        VARIABLE: json.dumps({"take.before-pack": f"wait:{gate}"}),
    }
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command = subprocess.Popen(
            [BIN / "scriptorium", "create", "--json"], env=environment, stdout=out, stderr=err, start_new_session=True
        )
    try:
        wait_until(lambda: Path(f"{gate}.here").exists() or command.poll() is not None, 120)
        (os.killpg if to_all else os.kill)(command.pid, number)
        assert command.wait(60) == code, (tmp_path / "err").read_text()
    finally:
        command.kill()
    wait_until(lambda: not children_of(mark), 20)
    assert rig.copies() == rig.before
    if number != signal.SIGKILL:
        assert json.loads((tmp_path / "out").read_text())["error"] == "interrupted"
        assert "unexpected" not in (tmp_path / "err").read_text()
        with contextlib.closing(sqlite3.connect(tmp_path / "command" / "prefect.db")) as history:
            assert history.execute("SELECT state_type FROM flow_run").fetchall() == [("CRASHED",)]


def wait_until(so: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < until
        time.sleep(0.05)
