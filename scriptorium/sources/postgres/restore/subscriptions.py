"""Subscriptions of a database: a restore does not make them, and a switch does not move them.

Two databases with the same subscription would each get only some of the changes, and the server refuses to drop a
database that has one. So the administrator makes the subscription again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.sources.postgres.connection import Row
from scriptorium.sources.postgres.toc import UnknownLayout, read_toc

if TYPE_CHECKING:
    import psycopg


def not_made(dump: Path) -> Iterator[str]:
    """A warning for each subscription of the dump."""
    try:
        entries = read_toc(dump)
    except UnknownLayout:
        return
    for entry in entries:
        if entry.what == b"SUBSCRIPTION":
            name = entry.name.decode("utf-8", "replace")
            yield f"subscription {name} is not made: make it again with CREATE SUBSCRIPTION after the restore"


def of(session: psycopg.Connection[Row], number: int) -> tuple[str, ...]:
    """The names of the subscriptions of the database with that oid."""
    found = session.execute(
        "SELECT subname::text FROM pg_subscription WHERE subdbid = %s::bigint ORDER BY 1", (number,)
    ).fetchall()
    return tuple(str(name) for (name,) in found)


def staying(session: psycopg.Connection[Row], number: int, previous: str) -> Iterator[str]:
    """A warning for each subscription of the database that is replaced."""
    for name in of(session, number):
        yield (
            f"subscription {name} stays active in the previous database {previous}, which is kept until it has none: "
            "run ALTER SUBSCRIPTION … DISABLE there, then DROP SUBSCRIPTION"
        )
