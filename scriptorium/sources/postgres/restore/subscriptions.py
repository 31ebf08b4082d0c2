"""Subscriptions of a database: not made by a restore, and not carried over by a switch.

Two databases with the same subscription would take the changes from each other, and the server drops no database that
has one. So whoever runs the server makes it anew where it belongs.
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
            yield f"subscription {name} is not made: CREATE SUBSCRIPTION makes it again, when the data is in its place"


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
            f"subscription {name} goes on in the previous database {previous}, which is kept until it has none: "
            "ALTER SUBSCRIPTION … DISABLE there, then DROP SUBSCRIPTION"
        )
