"""If a server cannot compute the fingerprint of a table, that one is missing; the backup or restore continues.

An index on a function, a generated column or a view may call a function that fails, or one that names other objects
without their schema.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from scriptorium.sources.postgres.connection import Row
from scriptorium.sources.postgres.own_names import own_path

if TYPE_CHECKING:
    import psycopg

_Found = TypeVar("_Found")
_OF_THE_SESSION = ("40", "53", "57", "58")  # deadlocks, resources, actions of an operator, errors of the system
_LOCKED = "55P03"


class Uncomputable(Exception):
    """The fingerprint of a table cannot be computed; the text says why."""


def computed(session: psycopg.Connection[Row], work: Callable[[], _Found]) -> _Found:
    """The result of ``work``. If it fails, it is tried again with the database's own ``search_path``.
    ``Uncomputable``."""
    try:
        with _computing(session):
            return work()
    except Uncomputable as first:
        try:
            with _computing(session):
                session.execute("SELECT set_config('search_path', %s, true)", (own_path(session),))
                return work()
        except Uncomputable:
            raise first from None


def of_the_session(session: psycopg.Connection[Row], error: psycopg.Error) -> bool:
    """Whether the error concerns more than its statement: the connection, a lock, the server's resources. Errors of
    another server or a foreign data wrapper, and values too large to be written as text, concern only the statement."""
    state = error.sqlstate or ""
    return session.closed or not state or state.startswith(_OF_THE_SESSION) or state == _LOCKED


@contextlib.contextmanager
def _computing(session: psycopg.Connection[Row]) -> Iterator[None]:
    """The block's work is rolled back. So locks of indexes and sequences are released now: a server has few of them."""
    import psycopg

    try:
        with session.transaction(force_rollback=True):
            yield
    except psycopg.errors.QueryCanceled as error:
        row = session.execute("SELECT current_setting('statement_timeout')").fetchone()
        if row is None or row[0] == "0":
            raise
        raise Uncomputable(f"it took longer than the statement_timeout of {row[0]}") from error
    except psycopg.Error as error:
        if of_the_session(session, error):
            raise
        if error.sqlstate == "42501" and "row-level security" in str(error):
            raise  # pg_dump refuses this table as well
        raise Uncomputable(" ".join((error.diag.message_primary or str(error)).split())) from error
