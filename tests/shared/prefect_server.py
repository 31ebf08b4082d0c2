"""A real Prefect server for one test, and its output."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

PREFECT = Path(sys.executable).with_name("prefect")


def clean(**more: str) -> dict[str, str]:
    """The environment of somebody who has set nothing of ours and nothing of Prefect's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCRIPTORIUM"))}
    return {**kept, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "COLUMNS": "240", **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(*words: str | Path, env: dict[str, str], cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program with a process group of its own, which is ended when the block ends; its output is added to ``log``."""
    with log.open("ab") as message:
        child = subprocess.Popen(words, env=env, cwd=cwd, stdout=message, stderr=message, start_new_session=True)
    try:
        yield child
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(20)


@contextlib.contextmanager
def prefect_server(
    home: Path, port: int | None = None, **variables: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server with this PREFECT_HOME, which also contains its log. Yields the URL of its API when it answers, and the
    process."""
    port = port or free_port()
    words = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
    env = clean(PREFECT_HOME=str(home), **variables)
    with running(PREFECT, *words, env=env, cwd=home, log=home / "log") as child:
        url = f"http://127.0.0.1:{port}/api"
        wait_for(lambda: urllib.request.urlopen(f"{url}/health", timeout=2).status == 200, 180)
        yield url, child


def wait_for(ready: Callable[[], bool], seconds: float, pause: float = 0.3) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if ready():
                return
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(pause)
