"""The Prefect API goes away while a backup is taken: it is completed, and the command says what it could not do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium.crashpoints import VARIABLE

BIN = Path(sys.executable).parent


def clean() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCRIPTORIUM"))}
    return {**kept, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Prefect server of our own, that may be killed."""
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


@pytest.mark.slow  # Prefect's client goes on trying for more than a minute
def test_the_api_is_gone_in_the_middle(house: Any, server: tuple[subprocess.Popen[bytes], str], tmp_path: Path) -> None:
    running, url = server
    gate = tmp_path / "gate"
    environment = {
        **clean(),
        "PREFECT_API_URL": url,
        "PREFECT_CLIENT_MAX_RETRIES": "1",  # the command has 2 of its own accord; each costs seconds, a dozen times
        "PREFECT_HOME": str(tmp_path / "command"),
        "SCRIPTORIUM_CONFIG": str(house.place.config),
        VARIABLE: json.dumps({"take.before-pack": f"wait:{gate}"}),
    }
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command = subprocess.Popen([BIN / "scriptorium", "create", "--json"], env=environment, stdout=out, stderr=err)
    try:
        until = time.monotonic() + 120
        while not Path(f"{gate}.here").exists():
            assert command.poll() is None and time.monotonic() < until, (tmp_path / "err").read_text()
            time.sleep(0.05)
        kill(running)
        gate.touch()
        assert command.wait(180) == 0, (tmp_path / "err").read_text()[-2000:]
    finally:
        command.kill()
    said = json.loads((tmp_path / "out").read_text())
    assert said["status"] == "verified"
    assert "could not be reported to Prefect" in (tmp_path / "err").read_text()
    assert {(said["id"], "local"), (said["id"], "second")} <= house.copies()
    house.require_sound()
    house.require_tidy()
