"""Connection poolers: known before the first setting is made, because that would stay in sessions of others.

A server tells each connection the process that serves it, in the key for cancelling. A pooler hands its clients to
servers' processes as it likes, so it gives them keys of its own (PgBouncer, Odyssey, PgCat, Supavisor: random ones).
Where the process that answers is another one than the key says, something stands between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scriptorium.errors import SettingsError

if TYPE_CHECKING:
    import psycopg

    from scriptorium.sources.postgres.connection import Row

_DIRECTLY = "name the host and the port of the server itself (PostgreSQL's own port is usually 5432), and"


def require_own_session(
    connection: psycopg.Connection[Row],
    on: object,
    *,
    declared: bool,
    again: Callable[[], psycopg.Connection[Row]],
) -> None:
    """``SettingsError`` where the connection is not surely a session of the server that is ours alone. Sets nothing.

    ``declared``: the settings say that the pooler keeps one session of the server for each client; then it is refused
    only where a second connection (``again``) shows the opposite.
    """
    serving = _serving(connection)
    if serving == connection.info.backend_pid:
        return
    if not declared:
        raise SettingsError(
            "the address leads to a connection pooler, not to the server: what is set in a session there reaches the "
            "sessions of the application",
            on=str(on),
            hint=f"connect directly: {_DIRECTLY} leave the pooler to the application",
        )
    with again() as second:
        shared = _serving(second) == serving
    if shared:
        raise SettingsError(
            "the pooler gives the same session of the server to several clients (pool_mode transaction or statement), "
            "although the settings say 'pooler = \"session\"'",
            on=str(on),
            hint=f"connect directly: {_DIRECTLY} leave 'pooler' out",
        )


def forget(connection: psycopg.Connection[Row]) -> None:
    """Leave nothing of ours in a session that the pooler may give to the next client."""
    import contextlib

    import psycopg

    with contextlib.suppress(psycopg.Error):
        connection.rollback()
        connection.autocommit = True
        connection.execute("DISCARD ALL")


def _serving(connection: psycopg.Connection[Row]) -> int:
    """The process of the server that answers now; asked by the simple protocol, which every pooler passes on."""
    result = connection.pgconn.exec_(b"SELECT pg_catalog.pg_backend_pid()")
    value = result.get_value(0, 0) if result.ntuples else None
    return int(value) if value else -1
