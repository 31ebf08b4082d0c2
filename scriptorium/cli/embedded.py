"""Prefect's API for the time of one command, where the user has configured no server.

Prefect would start an embedded one by itself; but that one outlives a command that is killed, and hears the Ctrl-C that
is meant for the command before the run could be written down. Here it is a child like every other.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scriptorium import process
from scriptorium.errors import ToolFailed, ToolMissing

_PATIENCE = 180.0  # seconds: it is slow to start on a small or busy machine, above all the first time
_HOST = "127.0.0.1"
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")
# What Prefect's own start of it sets: no page, and only the services that write down what runs tell.
_EMBEDDED = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextlib.contextmanager
def api() -> Iterator[bool]:
    """Have an API in the block; yields whether it is an embedded one. ``ToolFailed`` where that does not start,
    ``ToolMissing`` where the user has forbidden it.

    It is ended with the interpreter, after Prefect has sent what it had yet to send.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

    if PREFECT_API_URL.value() is not None:
        yield False
        return
    if not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        raise ToolMissing(
            "no Prefect server is configured, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids an embedded one",
            hint="set PREFECT_API_URL, or allow it",
        )
    with temporary_settings({PREFECT_API_URL: _start()}):
        yield True


def _start() -> str:
    """Start the server; returns the URL of its API when it answers."""
    import prefect
    from prefect.settings import get_current_settings

    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port = probe.getsockname()[1]
    said = tempfile.TemporaryFile()  # noqa: SIM115 -- the server's, as long as it lives
    folder = str(Path(str(prefect.__module_path__)).parent)
    words = ["--factory", "prefect.server.api.server:create_app", "--host", _HOST, "--port", str(port)]
    child = process.start(
        [sys.executable, "-m", "uvicorn", "--app-dir", folder, *words, "--log-level", "error", "--lifespan", "on"],
        env={**_EMBEDDED, **get_current_settings().to_environment_variables(exclude_unset=True)},
        stdout=said.fileno(),
        stderr=said.fileno(),
    )
    atexit.register(process.end, child)
    until = time.monotonic() + _PATIENCE
    url = f"http://{_HOST}:{port}/api"
    while not _answers(f"{url}/health"):
        if child.poll() is not None or time.monotonic() > until:
            raise ToolFailed(
                f"Prefect's embedded server did not start: {_reason(said)}",
                on=str(get_current_settings().home),
                hint="this PREFECT_HOME must be ours to write; or set PREFECT_API_URL to a server that runs",
            )
        time.sleep(0.05)
    return url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- our own address
            return bool(answer.status == 200)
    except OSError:
        return False


def _reason(said: IO[bytes]) -> str:
    """The last error in what the server has said, else its last line."""
    said.seek(0)
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["it was silent"])[-1].strip()
