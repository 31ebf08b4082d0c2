"""The databases that restores replaced, and those that killed restores and drills were loading: found and dropped.

Only what the records name, by its number, is ever dropped: a name alone says nothing of whose a database is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scriptorium.sources.postgres_databases import drop
from scriptorium.sources.postgres_records import Record, Records, number_of

if TYPE_CHECKING:
    import psycopg

    from scriptorium.sources.postgres_connection import Row


def former(session: psycopg.Connection[Row], records: Records, database: str) -> list[Record]:
    """Records of the databases that restores of ``database`` replaced and that are still there, newest first."""
    return [
        one
        for one in records.of(session, database)
        if one.former is not None and one.replaced is not None and number_of(session, one.former) == one.replaced
    ]


def drop_surplus(session: psycopg.Connection[Row], records: Records, database: str, keep: int) -> tuple[str, ...]:
    """Drop the former databases beyond the newest ``keep``, but for those that an undo may need; returns their names.

    Records that name no database any more are removed."""
    there = former(session, records, database)
    dropped = []
    for record in there[keep:]:
        if record.stage == "stands" and record.former is not None:
            drop(session, record.former)
            dropped.append(record.former)
    for record in records.of(session, database):
        if record.stage == "stands" and (record not in there or record.former in dropped):
            records.remove(record)
    return tuple(dropped)


def drop_unfinished(session: psycopg.Connection[Row], records: Records, database: str) -> tuple[str, ...]:
    """Drop what killed restores and drills were loading; returns the names."""
    dropped = []
    for record in records.of(session, database):
        if record.stage != "loading":
            continue
        number = number_of(session, record.new)
        if number is not None and record.made in (None, number):
            drop(session, record.new)
            dropped.append(record.new)
        records.remove(record)
    return tuple(dropped)
