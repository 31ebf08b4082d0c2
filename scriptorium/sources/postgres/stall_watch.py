"""Ends a program of PostgreSQL that makes no progress, because it would keep the library locked for ever.

A long statement is no stall: the server is asked whether it works for the program. A program that waits for us is not
stalled either. If the server cannot be asked, the program counts as working; a server that vanished is detected by the
connections themselves.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from scriptorium import process
from scriptorium.errors import ScriptoriumError, ToolStalled
from scriptorium.sources.postgres.connection import Address, Row
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.limits import watching

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between two looks, at least
_LOOKS = 90  # until a program counts as stalled, at most
_PROC = Path("/proc")
_SESSIONS = """
SELECT coalesce(state, 'hidden'), coalesce(wait_event_type, ''), coalesce(wait_event, 'working')
FROM pg_stat_activity WHERE application_name = %s AND pid <> %s AND backend_type = 'client backend'
"""
_RESTING = ("idle", "idle in transaction", "idle in transaction (aborted)")


@dataclass(slots=True)
class Transfer:
    """Bytes that were read from a child or written to it. ``waiting``: we wait for the child; otherwise it may wait for
    us."""

    count: int = 0
    waiting: bool = False

    def __call__(self) -> int | None:
        return self.count if self.waiting else None


def size_of(path: Path) -> int:
    """The bytes of a file, or of the files in a folder; 0 if there is nothing yet."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir())
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class StallWatch:
    """Ends ``child`` if it makes no progress for ``limit`` seconds (0: never), and then raises ``ToolStalled``.

    Progress is any of these: more bytes ``written`` (``None``: the child waits for us, and the time does not count);
    processor time of the child's process group; work of the server for a session named ``application``, except
    that of the process ``own_pid``, which is our own session.
    """

    def __init__(
        self,
        child: process.Child,
        program: str,
        address: Address,
        application: str,
        limit: float,
        *,
        written: Callable[[], int | None] = lambda: 0,
        own_pid: int = 0,
    ) -> None:
        self._child = child
        self._program = program
        self._limit = limit
        self._written = written
        self._server = _Server(address, application, own_pid)
        self._stalled: ToolStalled | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="stall watch")

    def __enter__(self) -> Self:
        if self._limit > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)
        ours = error is None or isinstance(error, ScriptoriumError)  # such an error may only follow from the stall
        if self._stalled is not None and ours and self._child.poll() != 0:
            raise self._stalled from error

    def _watch(self) -> None:
        every = max(_LOOK_SECONDS, self._limit / _LOOKS)
        still, last, before = 0.0, self._progress(), time.monotonic()
        with self._server:
            while not self._over.wait(every) and self._child.poll() is None:
                now = time.monotonic()
                passed, before = min(now - before, 2 * every), now  # our own process may have been stopped meanwhile
                progress = self._progress()
                moved = progress is None or progress != last or self._server.works()
                still, last = 0.0 if moved else still + passed, progress
                if still >= self._limit:
                    self._end(still)
                    return

    def _progress(self) -> tuple[int, int] | None:
        written = self._written()
        return None if written is None else (written, _processor_time(self._child.pid))

    def _end(self, still: float) -> None:
        how = " (its process was stopped)" if _state(self._child.pid) == "T" else ""
        self._stalled = ToolStalled(
            f"{self._program} made no progress for {still:.0f} s and was ended{how}: {self._server.waiting_for}",
            on=str(self._server.address),
            hint="try again; 'stall_timeout' is the number of seconds without progress that are allowed",
        )
        log.warning("%s", self._stalled)
        process.stop(self._child)


class _Server:
    """Answers whether the server works for the sessions of a child."""

    def __init__(self, address: Address, application: str, own_pid: int) -> None:
        self.address = address
        self.waiting_for = ""
        self._application = application
        self._own_pid = own_pid
        self._session: psycopg.Connection[Row] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._session = None

    def works(self) -> bool:
        """True also if the server cannot be asked."""
        try:
            with translating_errors(self.address):
                if self._session is None:
                    look = watching(self.address, f"{self._application} stall watch")
                    self._session = self._open.enter_context(look)
                found = self._session.execute(_SESSIONS, (self._application, self._own_pid)).fetchall()
        except ScriptoriumError:
            self.__exit__()
            return True
        waits = ", ".join(sorted({f"{state}: {event}" for state, _, event in found}))
        self.waiting_for = f"the server waits for it ({waits})" if found else "it has no session on the server"
        return any(state not in _RESTING and kind != "Client" for state, kind, _ in found)


def _stat(pid: int | str) -> list[str]:
    """The words of a process's ``stat``, beginning with its state; none if there is no such process, or no /proc."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return []


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _processor_time(group: int) -> int:
    """The processor time of all processes of the group, in ticks; 0 without /proc."""
    words = [_stat(entry.name) for entry in _PROC.glob("[0-9]*")]
    return sum(sum(map(int, one[11:15])) for one in words if len(one) > 14 and one[2] == str(group))
