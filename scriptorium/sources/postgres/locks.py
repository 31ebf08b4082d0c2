"""Which sessions hold a lock that ours are waiting for, and a limit for the waiting."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from scriptorium.errors import LibraryBusy, ScriptoriumError, SnapshotBusy
from scriptorium.sources.postgres.connection import Address, Row
from scriptorium.sources.postgres.limits import watching

if TYPE_CHECKING:
    import psycopg

_EVERY_SECONDS = 0.2
_BLOCKERS = """
SELECT DISTINCT b.pid, coalesce(b.usename::text, '?'), coalesce(nullif(b.application_name, ''), 'no name'),
       coalesce(b.state, '?'), coalesce(extract(epoch FROM clock_timestamp() - b.xact_start), 0)::int,
       coalesce(substring(b.query FROM '^\\s*(\\w+(\\s+(TABLE|INDEX|VIEW|DATABASE|SEQUENCE))?)'), '')
FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS held(pid)
JOIN pg_stat_activity b ON b.pid = held.pid
WHERE a.application_name = %s AND a.wait_event_type = 'Lock' AND b.application_name <> %s
"""
_WAITING = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"


class LockWatch:
    """While the block runs, finds the sessions that block the sessions named ``application``, from a separate session.

    ``seen`` is the last result: for each blocking session its process id, user, program and the first words of its
    statement (not more: it may contain secrets). If our sessions were blocked for ``patience`` seconds without a break,
    their statements are cancelled and ``ended`` is true: for programs that have no such limit themselves.
    """

    def __init__(self, address: Address, application: str, *, patience: float | None = None) -> None:
        self._address = address
        self._application = application
        self._patience = patience
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="lock watch")
        self.seen = ""
        self.ended = False

    def __enter__(self) -> LockWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        # An error of the watch is ignored: only an error of the watched sessions counts.
        with (
            contextlib.suppress(ScriptoriumError),
            watching(self._address, f"{self._application} lock watch") as session,
        ):
            since = time.monotonic()
            while not self._over.wait(_EVERY_SECONDS):
                rows = session.execute(_BLOCKERS, (self._application, self._application)).fetchall()
                if rows:
                    self.seen = "; ".join(
                        f"process {pid} (user {user}, {program}, {state} for {seconds} s, {words or 'no statement'})"
                        for pid, user, program, state, seconds, words in rows
                    )
                else:
                    since = time.monotonic()
                if self._patience is not None and time.monotonic() - since > self._patience:
                    self.ended = True
                    self._end(session)

    def _end(self, session: psycopg.Connection[Row]) -> None:
        for (pid,) in session.execute(_WAITING, (self._application,)).fetchall():
            session.execute("SELECT pg_cancel_backend(%s)", (pid,))


@contextlib.contextmanager
def naming_holders(address: Address, application: str) -> Iterator[None]:
    """A ``SnapshotBusy`` of the block says which sessions hold the locks that the sessions of ``application`` need."""
    with LockWatch(address, application) as watch:
        try:
            yield
        except SnapshotBusy as error:
            who = f"held by {watch.seen}" if watch.seen else error.hint
            raise SnapshotBusy(error.what, on=error.on, hint=who) from error


@contextlib.contextmanager
def patient_session(address: Address, lock_timeout: float) -> Iterator[psycopg.Connection[Row]]:
    """A session that waits at most ``lock_timeout`` seconds for a lock; ``SnapshotBusy`` says who holds it."""
    application = f"scriptorium look {secrets.token_hex(4)}"
    with naming_holders(address, application), address.session(application=application) as session:
        session.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(lock_timeout * 1000)}ms",))
        yield session


@contextlib.contextmanager
def patient_program(address: Address, application: str, lock_timeout: float) -> Iterator[None]:
    """The same for a program in the block that has no such limit: ``LibraryBusy``."""
    with LockWatch(address, application, patience=lock_timeout) as watch:
        try:
            yield
        except ScriptoriumError as error:
            if not watch.ended:
                raise
            raise LibraryBusy(
                f"a table was locked for more than {lock_timeout:g} seconds",
                on=str(address),
                hint=f"held by {watch.seen}; nothing was changed",
            ) from error
