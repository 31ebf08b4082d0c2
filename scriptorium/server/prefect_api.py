"""Prefect's API for the duration of one command, if the user has configured no server.

Prefect would start an embedded server by itself. But that one outlives a command that is killed, ends at a Ctrl-C that
is meant for the command, before the run is recorded, answers every user of the machine, and fails when several start at
once on a new database. Ours is an ordinary child process. It requires a password that only we know, listens at a port
that we bound before it started, and migrates the database while no other server does.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import secrets
import select
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

log = logging.getLogger(__name__)

_PATIENCE = 180.0  # seconds: the server starts slowly on a small or busy machine, above all the first time
_LOCK_PATIENCE = (
    1800.0  # seconds: a crontab may start many commands at once, and their servers start one after the other
)
_LOCK = "scriptorium-start.lock"
_HOST = "127.0.0.1"
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")
# What Prefect itself sets for an embedded server: no web page, and only the services that record runs.
_EMBEDDED = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextlib.contextmanager
def api() -> Iterator[bool]:
    """Provide an API in the block; yields whether it is an embedded one. ``ToolFailed`` if that does not start,
    ``ToolMissing`` if the user has forbidden it.

    The server ends with the interpreter, after Prefect has sent everything.
    """
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        temporary_settings,
    )

    if PREFECT_API_URL.value() is not None:
        yield False
        return
    if not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        raise ToolMissing(
            "no Prefect server is configured, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids an embedded one",
            hint="set PREFECT_API_URL, or allow it",
        )
    password = f"scriptorium:{secrets.token_urlsafe(32)}"
    url = _start(password)
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}):
        yield True


def _unusable(why: str, home: Path) -> ToolFailed:
    return ToolFailed(
        f"Prefect's embedded server did not start: {why}",
        on=str(home),
        hint="make this PREFECT_HOME writable for us; or set PREFECT_API_URL to a server that runs",
    )


def _start(password: str) -> str:
    """Start the server; returns the URL of its API when it answers."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(error.strerror or type(error).__name__, settings.home) from error
    output = tempfile.TemporaryFile()  # noqa: SIM115 -- the server writes to it as long as it runs
    lock_end, started_end = os.pipe()
    with socket.socket() as listening, contextlib.ExitStack() as pipe:
        pipe.callback(os.close, lock_end)
        # We bind it and keep it: another process could take a port that was only looked up, and receive our requests.
        listening.bind((_HOST, 0))
        url = f"http://{_HOST}:{listening.getsockname()[1]}/api"
        given = [str(listening.fileno()), str(started_end), str(settings.home / _LOCK)]
        try:
            child = process.start(
                [sys.executable, "-P", "-m", "scriptorium.server.embedded_server", *given],
                # Not as an argument: everybody can see arguments, but only the same user the environment.
                env={
                    **_EMBEDDED,
                    **settings.to_environment_variables(exclude_unset=True),
                    "PREFECT_SERVER_API_AUTH_STRING": password,
                    "PREFECT_API_AUTH_STRING": password,
                },
                stdout=output.fileno(),
                stderr=output.fileno(),
                pass_fds=(listening.fileno(), started_end),
            )
        finally:
            os.close(started_end)
        atexit.register(process.end, child)
        _wait_for_the_lock(lock_end, settings.home)
    until = time.monotonic() + _PATIENCE
    while not _answers(f"{url}/health"):
        if child.poll() is not None or time.monotonic() > until:
            raise _unusable(_reason(output), settings.home)
        time.sleep(0.05)
    log.info("the embedded Prefect server answers")
    return url


def _wait_for_the_lock(lock_end: int, home: Path) -> None:
    """Wait until the server may start, or has ended: then its end of the pipe is closed."""
    if not select.select([lock_end], [], [], _LOCK_PATIENCE)[0]:
        raise ToolFailed(
            f"other commands have been starting Prefect's embedded server for {_LOCK_PATIENCE / 60:.0f} minutes",
            on=str(home),
            hint="end them; or run a server (prefect server start) and set PREFECT_API_URL",
        )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- our own address
            return bool(answer.status == 200)
    except OSError:
        return False


def _reason(output: IO[bytes]) -> str:
    """The last error in the output of the server, else its last line."""
    output.seek(0)
    lines = output.read().decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["it was silent"])[-1].strip()
