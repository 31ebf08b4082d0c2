"""Child processes: the only importer of ``subprocess``.

Every child leads its own process group, is registered while it lives, and ends with us: after an error, at a
deadline, after cancellation (``no_child_outlives``), and, where ``setpriv`` is installed (every Debian), also when we
are killed. Arguments are lists, never shell strings. Secrets are passed in the environment or on standard input, and
are masked in the text of errors.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import ToolFailed, ToolMissing, ToolStalled
from scriptorium.umask import users_umask

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0
_TAIL_LINES = 20
_TAIL_BYTES = 4096
_live: set[int] = set()
_live_guard = threading.Lock()

Child = subprocess.Popen[bytes]
NOTHING = subprocess.DEVNULL
_PREFECTS_SECRETS = frozenset(
    {
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_DATABASE_CONNECTION_URL",
        "PREFECT_API_DATABASE_PASSWORD",
        "PREFECT_API_KEY",
        "PREFECT_CLIENT_CUSTOM_HEADERS",
        "PREFECT_SERVER_API_AUTH_STRING",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL",
        "PREFECT_SERVER_DATABASE_PASSWORD",
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended: exit status (negative: ended by that signal), its output, wall seconds."""

    status: int
    stdout: bytes
    stderr: str
    seconds: float


def find_tool(name: str, *, package: str = "") -> str:
    """Full path of a program; ``ToolMissing`` names the Debian package that brings it."""
    found = shutil.which(name)
    if found is None:
        hint = f"install it: apt-get install {package}" if package else "install it, or put it on PATH"
        if " " in name:
            hint = 'a command is a list of words: ["program", "word"]; a shell reads ["sh", "-c", "nohup program &"]'
        raise ToolMissing("program not found", on=name, hint=hint)
    return found


def variable(name: str) -> str | None:
    """A variable of our environment: for secrets that the settings name (``password_env``)."""
    return os.environ.get(name)


def mask(text: str, secrets: Sequence[str]) -> str:
    """The text with every secret replaced by ``***``."""
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.PIPE,
    outlive_us: bool = False,
    pass_fds: Sequence[int] = (),
    users: bool = False,
) -> Child:
    """Start a child in its own process group. Prefer ``run`` and ``stream``; the caller must ``end`` this one.

    ``env``: variables added to ours (without Prefect's secrets). ``outlive_us``: not killed with us (a watchdog).
    ``users``: a command of the user, which makes files with the user's own umask.
    """
    command = [find_tool(argv[0]), *argv[1:]]
    setpriv = None if outlive_us else shutil.which("setpriv")
    if setpriv:
        command = [setpriv, "--pdeathsig", "KILL", "--", *command]
    child = subprocess.Popen(
        command,
        env={**_inherited(), **(env or {})},
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        pass_fds=tuple(pass_fds),
        umask=users_umask() if users else -1,
    )
    if not outlive_us:
        with _live_guard:
            _live.add(child.pid)
    return child


def _inherited() -> dict[str, str]:
    """Our environment without the secrets of Prefect's API and its database. Whoever has them can run any command as
    our user, and a child may be the application, which the ``start`` of a health check leaves running."""
    return {name: value for name, value in os.environ.items() if name not in _PREFECTS_SECRETS}


def end(child: Child, *, grace: float = _GRACE_SECONDS) -> int:
    """End the child's whole group (SIGTERM, then SIGKILL) and reap it; returns its exit status."""
    stop(child, grace=grace)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with _live_guard:
        _live.discard(child.pid)
    return child.returncode


def stop(child: Child, *, grace: float = _GRACE_SECONDS) -> None:
    """Like ``end``, but its pipes stay open, because another thread uses them; the caller must still ``end`` it."""
    _signal_group(child.pid, signal.SIGTERM if child.poll() is None else signal.SIGKILL)
    _signal_group(child.pid, signal.SIGCONT)  # a stopped process reacts to no other signal
    try:
        child.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        _signal_group(child.pid, signal.SIGKILL)
        child.wait()
    _signal_group(child.pid, signal.SIGKILL)  # grandchildren that are still there


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def end_all(but: Collection[int] = ()) -> None:
    """End every child group that still lives, except those whose leaders are given by their process ids."""
    with _live_guard:
        groups = tuple(_live - set(but))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in groups:
            _signal_group(pid, number)
        if number == signal.SIGTERM and groups:
            time.sleep(0.2)


@contextlib.contextmanager
def no_child_outlives() -> Iterator[None]:
    """If an error, Ctrl-C or cancellation ends this block, every child that was started in it is ended too."""
    with _live_guard:
        older = frozenset(_live)
    try:
        yield
    except BaseException:
        end_all(but=older)
        raise


class _Tail:
    """Reads a child's standard error on a thread, keeping its last lines."""

    def __init__(self, pipe: io.BufferedReader) -> None:
        self._lines: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._pipe:
                self._lines.append(line)

    def text(self) -> str:
        self._thread.join(timeout=2)
        return b"".join(self._lines).decode("utf-8", "replace").strip()


def failure(argv: Sequence[str], status: int, stderr: str, secrets: Sequence[str] = ()) -> ToolFailed:
    """The error for a child that ended badly: its name, how it ended, its last words."""
    how = f"was ended by signal {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    words = mask(stderr, secrets).splitlines()
    last = f": {words[-1]}" if words else ""
    return ToolFailed(f"{Path(argv[0]).name} {how}{last}", hint="; ".join(words[-5:]), status=status)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: bytes | None = None,
    timeout: float | None = None,
    secrets: Sequence[str] = (),
    check: bool = True,
    users: bool = False,
    watch: Callable[[Child], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Outcome:
    """Run a child to its end and return what it printed (for outputs that fit in memory).

    ``watch`` is entered with the child while it runs, and may end it (``stop``) and raise.
    Raises ``ToolMissing``, ``ToolFailed`` (with ``check``), ``ToolStalled`` past ``timeout`` seconds.
    """
    began = time.monotonic()
    stdin = subprocess.PIPE if input is not None else subprocess.DEVNULL
    child = start(argv, env=env, cwd=cwd, stdin=stdin, users=users)
    try:
        try:
            with watch(child):
                out, err = child.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise ToolStalled(
                f"{Path(argv[0]).name} did not end within {timeout:.0f} s and was ended", hint="try again later"
            ) from None
    finally:
        status = end(child)
    stderr = mask(err.decode("utf-8", "replace"), secrets)
    log.debug("%s ended with status %d after %.1f s", Path(argv[0]).name, status, time.monotonic() - began)
    if check and status != 0:
        raise failure(argv, status, stderr, secrets)
    return Outcome(status, out, stderr, time.monotonic() - began)


def launch(argv: Sequence[str], *, timeout: float) -> int:
    """Run a child to its end and keep what it left running (``nohup app &``); returns the id of its process group.

    Its output goes into a file that is removed, because the processes that it left may go on writing. Raises
    ``ToolMissing``, ``ToolFailed``, ``ToolStalled`` past ``timeout`` seconds; then all of the group is ended.
    """
    with tempfile.TemporaryFile() as words:
        child = start(argv, stdout=words.fileno(), stderr=words.fileno(), outlive_us=True, users=True)
        try:
            status = child.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            end(child)
            raise ToolStalled(
                f"{Path(argv[0]).name} did not end within {timeout:.0f} s and was ended",
                hint="it must start the application in the background, as systemctl or nohup do, and end",
            ) from None
        except BaseException:
            end(child)
            raise
        if status != 0:
            end(child)
            words.seek(max(0, words.seek(0, os.SEEK_END) - _TAIL_BYTES))
            raise failure(argv, status, words.read().decode("utf-8", "replace"))
    return child.pid


def end_group(leader: int, *, grace: float = _GRACE_SECONDS) -> None:
    """End what a launched child left running in its group, if anything is left."""
    until = time.monotonic() + grace
    _signal_group(leader, signal.SIGTERM)
    while time.monotonic() < until and _group_lives(leader):
        time.sleep(0.05)
    _signal_group(leader, signal.SIGKILL)


def _group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
    secrets: Sequence[str] = (),
    meaning: Callable[[int, str], Exception | None] | None = None,
    merged: bool = False,
) -> Iterator[io.BufferedReader]:
    """A child's standard output as a stream. Leaving the block checks the exit status, so that output that
    ends early is an error here and not later.

    ``meaning``: the error of a status that is not 0, by the last lines of standard error; ``None`` where it is none.
    ``merged``: standard error comes in the same stream.
    """
    child = start(argv, env=env, cwd=cwd, stdin=stdin, stderr=subprocess.STDOUT if merged else subprocess.PIPE)
    assert child.stdout is not None
    tail = _Tail(child.stderr) if child.stderr is not None else None  # type: ignore[arg-type]
    try:
        yield child.stdout  # type: ignore[misc]
        status = child.wait()
        if status != 0:
            lines = mask(tail.text() if tail is not None else "", secrets)
            error = meaning(status, lines) if meaning is not None else failure(argv, status, lines, secrets)
            if error is not None:
                raise error
    finally:
        end(child)
