"""How many more connections a role may open: the limits of the database, of the role and of the server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scriptorium.errors import NotFound, PermanentError, SourceUnavailable
from scriptorium.sources.postgres.connection import Address, Row

if TYPE_CHECKING:
    import psycopg

# For each limit: its name, how many connections it allows (NULL: any number), how many are in use, ours included.
_LIMITS = """
SELECT 'of the database (ALTER DATABASE ' || quote_ident(d.datname) || ' CONNECTION LIMIT)',
    CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN d.datconnlimit END,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')
FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = session_user
UNION ALL
SELECT 'of the role (ALTER ROLE ' || quote_ident(r.rolname) || ' CONNECTION LIMIT)',
    CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit END,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.backend_type = 'client backend')
FROM pg_roles r WHERE r.rolname = session_user
UNION ALL
SELECT 'of the server (max_connections)',
    current_setting('max_connections')::int - CASE WHEN r.rolsuper THEN 0 ELSE
        current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true), '0')::int END,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend')
FROM pg_roles r WHERE r.rolname = session_user
"""
_MANY = 1000
_WAIT_SECONDS, _LOOK_SECONDS = 3.0, 0.2


def left(session: psycopg.Connection[Row]) -> tuple[int, str]:
    """How many more connections this session's role may open to its database now, and which limit decides."""
    with session.transaction(force_rollback=True):  # its locks are released now, not at the end of a long transaction
        session.execute("SELECT pg_stat_clear_snapshot()")  # a transaction caches the list of sessions
        rows = session.execute(_LIMITS.encode()).fetchall()
    found = [
        (int(str(limit)) - int(str(used)), f"{what} is {limit}, {used} are in use")
        for what, limit, used in rows
        if limit is not None
    ]
    return min(found, default=(_MANY, ""))


def fitting_jobs(session: psycopg.Connection[Row], jobs: int, *, leader: int = 0) -> int:
    """How many processes can run with the connections that are left beside this session; at least one. ``leader``:
    connections of the program's leading process, which come on top of those of its ``jobs``."""
    free, _ = left(session)
    return max(1, min(jobs, free - leader))


def require_one_more(session: psycopg.Connection[Row], address: Address, what: str) -> None:
    """``SourceUnavailable`` if no connection is left for ``what`` beside this session. It is transient, because other
    sessions may end."""
    until = time.monotonic() + _WAIT_SECONDS
    while (found := left(session))[0] < 1 and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)  # our own stall watch may use the last connection briefly
    free, limit = found
    if free < 1:
        raise SourceUnavailable(
            f"no connection is left for {what}: the connection limit {limit}",
            on=str(address),
            hint="two connections at once are needed; raise the limit, or try again when fewer are in use",
        )


@contextlib.contextmanager
def watching(address: Address, application: str) -> Iterator[psycopg.Connection[Row]]:
    """A session that watches other sessions. It is in another database, if possible. It is only opened if one more
    connection stays free for the sessions that do the work; else ``SourceUnavailable``."""
    with contextlib.ExitStack() as open_:
        try:
            session = open_.enter_context(address.maintenance())
        except (NotFound, PermanentError):
            session = open_.enter_context(address.session(application=application))
        free, limit = left(session)
        if free < 1:
            raise SourceUnavailable(f"no connection to spare: the limit {limit}", on=str(address))
        yield session
