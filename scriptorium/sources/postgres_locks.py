"""Who stands in the way: the sessions that hold a lock which ours are waiting for."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

from scriptorium.errors import ScriptoriumError
from scriptorium.sources.postgres_connection import Address

_EVERY_SECONDS = 0.2
_BLOCKERS = """
SELECT DISTINCT b.pid, coalesce(b.usename::text, '?'), coalesce(nullif(b.application_name, ''), 'no name'),
       coalesce(b.state, '?'), coalesce(extract(epoch FROM clock_timestamp() - b.xact_start), 0)::int,
       coalesce(substring(b.query FROM '^\\s*(\\w+(\\s+(TABLE|INDEX|VIEW|DATABASE|SEQUENCE))?)'), '')
FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS held(pid)
JOIN pg_stat_activity b ON b.pid = held.pid
WHERE a.application_name = %s AND a.wait_event_type = 'Lock' AND b.application_name <> %s
"""


class LockWatch:
    """Looks, from a session of its own, for whoever blocks the sessions called ``application``, while the block lasts.

    ``seen`` is the last answer: a line for each holder, with its process id, user, program and first words (no more
    of its statement: there may be secrets in it).
    """

    def __init__(self, address: Address, application: str) -> None:
        self._address = address
        self._application = application
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="lock watch")
        self.seen = ""

    def __enter__(self) -> LockWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        # A watch that cannot look says nothing; the error of what it watches over is what counts.
        with (
            contextlib.suppress(ScriptoriumError),
            self._address.session(application=f"{self._application} lock watch") as session,
        ):
            while not self._over.wait(_EVERY_SECONDS):
                rows = session.execute(_BLOCKERS, (self._application, self._application)).fetchall()
                if rows:
                    self.seen = "; ".join(
                        f"process {pid} (user {user}, {program}, {state} for {seconds} s, {words or 'no statement'})"
                        for pid, user, program, state, seconds, words in rows
                    )
