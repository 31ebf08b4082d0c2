"""Whether a program of PostgreSQL still makes progress: one that stands still must not hold the library for ever.

A long statement is no stall: the server is asked whether it works for the program. Nor is a program that waits for us.
What cannot be asked proves nothing; a server that vanished is found out by the connections themselves.
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
from scriptorium.sources.postgres.errors import in_our_words
from scriptorium.sources.postgres.limits import watching

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # at least, between two looks
_LOOKS = 90  # at most, until something is called stalled
_PROC = Path("/proc")
_SESSIONS = """
SELECT coalesce(state, 'hidden'), coalesce(wait_event_type, ''), coalesce(wait_event, 'working')
FROM pg_stat_activity WHERE application_name = %s AND pid <> %s AND backend_type = 'client backend'
"""
_RESTING = ("idle", "idle in transaction", "idle in transaction (aborted)")


@dataclass(slots=True)
class Transfer:
    """Bytes that a child gives us or takes from us. ``waiting``: for the child; otherwise it may be waiting for us."""

    count: int = 0
    waiting: bool = False

    def __call__(self) -> int | None:
        return self.count if self.waiting else None


def size_of(path: Path) -> int:
    """The bytes of a file, or of the files in a folder; 0 where there is nothing yet."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir())
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class StallWatch:
    """Ends ``child`` when nothing moves for ``limit`` seconds (0: never), and then raises ``ToolStalled`` at its end.

    What moves: the bytes ``written`` (None: it is we who are waited for, and the time does not count), the processor's
    time of the child and of its own, work of the server for a session called ``application`` (not for ``but``, ours).
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
        but: int = 0,
    ) -> None:
        self._child = child
        self._program = program
        self._limit = limit
        self._written = written
        self._server = _Server(address, application, but)
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
        ours = error is None or isinstance(error, ScriptoriumError)  # what else came of its end says less
        if self._stalled is not None and ours and self._child.poll() != 0:
            raise self._stalled from error

    def _watch(self) -> None:
        every = max(_LOOK_SECONDS, self._limit / _LOOKS)
        still, last, before = 0.0, self._signs(), time.monotonic()
        with self._server:
            while not self._over.wait(every) and self._child.poll() is None:
                now = time.monotonic()
                passed, before = min(now - before, 2 * every), now  # we may have been stopped ourselves
                signs = self._signs()
                moved = signs is None or signs != last or self._server.works()
                still, last = 0.0 if moved else still + passed, signs
                if still >= self._limit:
                    self._end(still)
                    return

    def _signs(self) -> tuple[int, int] | None:
        written = self._written()
        return None if written is None else (written, _processor_time(self._child.pid))

    def _end(self, still: float) -> None:
        how = " (it was stopped)" if _state(self._child.pid) == "T" else ""
        self._stalled = ToolStalled(
            f"{self._program} stood still for {still:.0f} s and was ended{how}: {self._server.said}",
            on=str(self._server.address),
            hint="try again; 'stall_timeout' is the number of seconds that it may stand still",
        )
        log.warning("%s", self._stalled)
        process.stop(self._child)


class _Server:
    """Answers whether the server works for the sessions of a child."""

    def __init__(self, address: Address, application: str, but: int) -> None:
        self.address = address
        self.said = ""
        self._application = application
        self._but = but
        self._session: psycopg.Connection[Row] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._session = None

    def works(self) -> bool:
        """True also where it cannot be asked."""
        try:
            with in_our_words(self.address):
                if self._session is None:
                    look = watching(self.address, f"{self._application} stall watch")
                    self._session = self._open.enter_context(look)
                found = self._session.execute(_SESSIONS, (self._application, self._but)).fetchall()
        except ScriptoriumError:
            self.__exit__()
            return True
        waits = ", ".join(sorted({f"{state}: {event}" for state, _, event in found}))
        self.said = f"the server waits for it ({waits})" if found else "it has no session on the server"
        return any(state not in _RESTING and kind != "Client" for state, kind, _ in found)


def _stat(pid: int | str) -> list[str]:
    """The words of a process's ``stat`` from its state on; none where there is no such process, or no /proc."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return []


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _processor_time(group: int) -> int:
    """Of all processes of the group, in ticks; 0 where there is no /proc."""
    words = [_stat(entry.name) for entry in _PROC.glob("[0-9]*")]
    return sum(sum(map(int, one[11:15])) for one in words if len(one) > 14 and one[2] == str(group))
