"""Prefect's API for the time of one command, where the user has configured no server.

Prefect would start an embedded one by itself; but that one outlives a command that is killed, hears the Ctrl-C that is
meant for the command before the run could be written down, answers every user of the machine, and fails when several
begin at once on a new database. Here it is a child like every other, asks for a password that only we know, listens at
a port that was ours before it began, and brings the database up to date while no other does.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import secrets
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from scriptorium import process
from scriptorium.errors import ToolFailed, ToolMissing

_PATIENCE = 180.0  # seconds: it is slow to start on a small or busy machine, above all the first time
_TURN = 1800.0  # seconds: as many commands as a crontab may have in one line each start one after the other
_LOCK = "scriptorium-start.lock"
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
    with _turn():
        url = _start(password)
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}):
        yield True


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One server at a time begins on one PREFECT_HOME: each of them brings the database up to date first, and two that
    do so at once find it locked or half made. The kernel drops the lock of whoever dies."""
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        turn = FileLock(home / _LOCK, mode=0o600)
        turn.acquire(timeout=_TURN, poll_interval=0.1)
    except Timeout:
        raise ToolFailed(
            f"other commands have been starting Prefect's embedded server for {_TURN / 60:.0f} minutes",
            on=str(home),
            hint="end them; or run a server (prefect server start) and set PREFECT_API_URL",
        ) from None
    except OSError as error:
        raise _unusable(error.strerror or type(error).__name__, home) from error
    try:
        yield
    finally:
        turn.release()


def _unusable(why: str, home: Path) -> ToolFailed:
    return ToolFailed(
        f"Prefect's embedded server did not start: {why}",
        on=str(home),
        hint="this PREFECT_HOME must be ours to write; or set PREFECT_API_URL to a server that runs",
    )


def _start(password: str) -> str:
    """Start the server; returns the URL of its API when it answers."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    said = tempfile.TemporaryFile()  # noqa: SIM115 -- the server's, as long as it lives
    with socket.socket() as listening:
        # Bound by us and never let go: whoever takes a port that was only looked up would hear what is Prefect's.
        listening.bind((_HOST, 0))
        port = listening.getsockname()[1]
        child = process.start(
            [sys.executable, "-P", "-m", "scriptorium.cli.embedded_server", str(listening.fileno())],
            # The password is in no argument: everybody sees those, and the environment only the same user.
            env={
                **_EMBEDDED,
                **settings.to_environment_variables(exclude_unset=True),
                "PREFECT_SERVER_API_AUTH_STRING": password,
                "PREFECT_API_AUTH_STRING": password,
            },
            stdout=said.fileno(),
            stderr=said.fileno(),
            pass_fds=(listening.fileno(),),
        )
    atexit.register(process.end, child)
    until = time.monotonic() + _PATIENCE
    url = f"http://{_HOST}:{port}/api"
    while not _answers(f"{url}/health"):
        if child.poll() is not None or time.monotonic() > until:
            raise _unusable(_reason(said), settings.home)
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
