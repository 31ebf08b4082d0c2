"""Finds and drops the databases that restores replaced, and those that killed restores and drills were loading.

Only a database that a record names by its number is dropped: its name alone does not show who made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scriptorium.fs.previous import Kept, Previous, Whereabouts
from scriptorium.sources.postgres.databases import drop
from scriptorium.sources.postgres.records import Record, Records, name_of, number_of, system_of

if TYPE_CHECKING:
    import psycopg

    from scriptorium.sources.postgres.connection import Row


def previous_of(session: psycopg.Connection[Row], records: Records, database: str) -> list[Record]:
    """Records of the databases that restores of ``database`` replaced and that still exist, newest first."""
    return [
        one
        for one in records.of(session, database)
        if one.previous is not None and one.replaced is not None and number_of(session, one.previous) == one.replaced
    ]


def drop_surplus(session: psycopg.Connection[Row], records: Records, database: str, keep: int) -> tuple[str, ...]:
    """Drop the previous databases except the newest ``keep`` and those that an undo may need; returns their names.

    Records whose databases no longer exist are removed."""
    there = previous_of(session, records, database)
    dropped = []
    for record in there[keep:]:
        if record.stage == "stands" and record.previous is not None and not _has_subscriptions(session, record):
            drop(session, record.previous)
            dropped.append(record.previous)
    for record in records.of(session, database):
        if record.stage == "stands" and (record not in there or record.previous in dropped):
            records.remove(record)
    return tuple(dropped)


def _has_subscriptions(session: psycopg.Connection[Row], record: Record) -> bool:
    """The server refuses to drop a database with subscriptions; the restore warned of it (``subscriptions.py``)."""
    found = session.execute("SELECT FROM pg_subscription WHERE subdbid = %s::bigint LIMIT 1", (record.replaced,))
    return found.fetchone() is not None


def drop_unfinished(session: psycopg.Connection[Row], records: Records, database: str) -> tuple[str, ...]:
    """Drop the databases that killed restores and drills were loading; returns their names."""
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


def kept(record: Record) -> Kept:
    """How the database that a restore replaced is recognised later; see ``Keeping``."""
    return {
        "system": record.system,
        "database": record.database,
        "former": record.previous,
        "replaced": record.replaced,
        "made": record.made,
    }


def whereabouts(session: psycopg.Connection[Row], kept: Kept) -> Previous:
    """Where the database that a restore replaced is now, by its number on its server."""
    if other := another_server(session, kept):
        return other
    name, previous, replaced = str(kept["database"]), kept["former"], kept["replaced"]
    here = number_of(session, name)
    if here == replaced:
        there = f"database {name}, number {replaced}" if replaced is not None else f"no database {name}, as before"
        return Previous(Whereabouts.BACK, there)
    if replaced is None:
        ours = here == kept["made"]
        there = "no database was there before" if ours else f"a database {name} that no restore made is there"
        return Previous(Whereabouts.ASIDE if ours else Whereabouts.GONE, there)
    called = name_of(session, int(str(replaced)))
    if called == previous:
        return Previous(Whereabouts.ASIDE, f"as the database {previous}")
    if called is None:
        return Previous(Whereabouts.GONE, f"the database {previous} was dropped")
    return Previous(
        Whereabouts.GONE,
        f'{previous} was renamed: ALTER DATABASE "{called}" RENAME TO "{previous}" makes an undo possible',
    )


def another_server(session: psycopg.Connection[Row], kept: Kept) -> Previous | None:
    """The verdict if another server answers than the one that was restored to."""
    if kept["system"] in ("", system_of(session)):
        return None
    return Previous(Whereabouts.GONE, "another server answers at its address than the one that was restored to")
