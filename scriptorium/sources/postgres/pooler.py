"""Connection poolers are detected before the first setting is made, because it would stay in sessions of others.

A server tells each connection the id of the process that serves it, in the key for cancelling. A pooler distributes its
clients over processes of the server, so it gives them keys of its own (PgBouncer, Odyssey, PgCat, Supavisor: random
ones). If the process that answers is not the one in the key, there is a pooler. A pooler that passes on the server's
key is detected in another way: the server sees another port than ours, and two clients share one session.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from scriptorium.errors import SettingsError

if TYPE_CHECKING:
    import psycopg

    from scriptorium.sources.postgres.connection import Row

_LOOKS = 3
_DIRECTLY = "name the host and the port of the server itself (PostgreSQL's own port is usually 5432), and"


def require_own_session(
    connection: psycopg.Connection[Row],
    on: object,
    *,
    declared: bool,
    again: Callable[[], psycopg.Connection[Row]],
) -> None:
    """``SettingsError`` unless the connection certainly is a session of the server that only we use. Sets nothing.

    ``declared``: the settings say that the pooler keeps one session of the server for each client. Then it is refused
    only if a second connection (``again``) shows the opposite.
    """
    serving = _serving(connection)
    if serving == connection.info.backend_pid and (_reaches_the_server(connection) or not _shared(connection, again)):
        return
    if not declared:
        raise SettingsError(
            "the address leads to a connection pooler, not to the server: what is set in a session there reaches the "
            "sessions of the application",
            on=str(on),
            hint=f"connect directly: {_DIRECTLY} leave the pooler to the application",
        )
    if _shared(connection, again):
        raise SettingsError(
            "the pooler gives the same session of the server to several clients (pool_mode transaction or statement), "
            "although the settings say 'pooler = \"session\"'",
            on=str(on),
            hint=f"connect directly: {_DIRECTLY} leave 'pooler' out",
        )


def _reaches_the_server(connection: psycopg.Connection[Row]) -> bool:
    """Whether the server sees our port as the client's. It does not behind a pooler, nor behind another program that
    passes bytes on (a container's port, a load balancer)."""
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        mine = ours.getsockname()
    result = connection.pgconn.exec_(b"SELECT pg_catalog.inet_client_port()")
    value = result.get_value(0, 0) if result.ntuples else None
    return (int(value) if value else None) == (mine[1] if isinstance(mine, tuple) else None)


def _shared(connection: psycopg.Connection[Row], again: Callable[[], psycopg.Connection[Row]]) -> bool:
    """Whether two clients get the same session of the server, or one client gets several. (Some poolers pass on the
    server's own key.) False if no second connection can be made."""
    import psycopg

    first = _serving(connection)
    with contextlib.suppress(psycopg.OperationalError), again() as second:
        # Also several times in a row: a pooler with two sessions may give them in turns, so that in alternating
        # queries each client always gets the same one.
        return any(_serving(second) == first or _serving(connection) != first for _ in range(_LOOKS)) or any(
            _serving(connection) != first for _ in range(_LOOKS)
        )
    return False


def reset_session(connection: psycopg.Connection[Row]) -> None:
    """Remove our settings from a session that the pooler may give to the next client."""
    import psycopg

    with contextlib.suppress(psycopg.Error):
        connection.rollback()
        connection.autocommit = True
        connection.execute("DISCARD ALL")


def _serving(connection: psycopg.Connection[Row]) -> int:
    """The process of the server that answers now. The simple protocol is used, which every pooler passes on."""
    result = connection.pgconn.exec_(b"SELECT pg_catalog.pg_backend_pid()")
    value = result.get_value(0, 0) if result.ntuples else None
    return int(value) if value else -1
