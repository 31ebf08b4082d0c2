"""A preset's statements, run in the snapshot of a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scriptorium.model import Rows
from scriptorium.sources.postgres.connection import Row, sql

if TYPE_CHECKING:
    import psycopg


def answers(session: psycopg.Connection[Row], statements: Mapping[str, str]) -> dict[str, Rows]:
    """Rows as text, by the statements' names. A statement that names a missing table or column has no answer."""
    import psycopg

    found: dict[str, Rows] = {}
    for name, statement in statements.items():
        try:
            with session.transaction():  # a savepoint inside a transaction: a failure does not end the outer one
                rows = session.execute(sql(statement)).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            continue
        found[name] = tuple(tuple(None if value is None else str(value) for value in row) for row in rows)
    return found
