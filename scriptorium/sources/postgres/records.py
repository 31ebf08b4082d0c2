"""Which databases restores and drills made and replaced, recorded in a folder that only we can write to.

A database is identified by its number (oid) on its server, which a rename does not change, and never by its name alone:
names are cut, are chosen by other people, and are used again. Nothing is written into the database itself, so its
backups contain nothing of ours. There is one small file for each restore of a source::

    <records>/<restore id>-<source>.json

It is written before the database is made, and removed with the last database that it names.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scriptorium.errors import DamageFound, RestoreFailed
from scriptorium.fs import atomic
from scriptorium.fs.ours import others_may_write
from scriptorium.manifest import decoded, encoded

if TYPE_CHECKING:
    import psycopg

    from scriptorium.sources.postgres.connection import Row

_WRITTEN = {"previous": "former"}  # the key in these files since the first version
_READ = {written: name for name, written in _WRITTEN.items()}
Stage = Literal["loading", "switching", "stands"]


@dataclass(frozen=True, slots=True)
class Record:
    """One restore of a database. ``system``: the server's own number; empty if this role may not read it.

    ``new``: the name of the database that is loaded; ``previous``: the name that the living one gets (``former`` in the
    file). ``made``: the number of the loaded database; ``replaced``: the number of the database that it replaces, if
    there is one. ``stage``: ``loading``; ``switching`` from just before the switch until it can no longer be undone;
    ``stands``.
    """

    restore: str
    source: str
    system: str
    database: str
    new: str
    at: str
    made: int | None = None
    replaced: int | None = None
    previous: str | None = None
    stage: Stage = "loading"

    def now(self, **changes: int | str | None) -> Record:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


class Records:
    """The records in a folder, which is made when the first one is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, restore: str, source: str) -> Path:
        return self._folder / f"{restore}-{source}.json"

    def read(self, restore: str, source: str) -> Record | None:
        """The record of a restore. ``RestoreFailed`` if somebody else may have written it."""
        return _read(self._file(restore, source))

    def __iter__(self) -> Iterator[Record]:
        """All records, newest first; those that others may have written are skipped."""
        found = []
        for file in self._folder.glob("*.json"):
            try:
                record = _read(file)
            except RestoreFailed:
                continue
            if record is not None:
                found.append(record)
        yield from sorted(found, key=lambda record: record.at, reverse=True)

    def write(self, record: Record) -> Record:
        """Write it durably; returns it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._file(record.restore, record.source)
        words = dataclasses.asdict(record)
        atomic.write(file, encoded({_WRITTEN.get(name, name): value for name, value in words.items()}))
        return record

    def remove(self, record: Record) -> None:
        self._file(record.restore, record.source).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder is removed with its last record
            self._folder.rmdir()

    def of(self, session: psycopg.Connection[Row], database: str) -> list[Record]:
        """The records of a database on the server of this session, newest first."""
        system = system_of(session)
        return [one for one in self if one.database == database and one.system in ("", system)]


def _read(file: Path) -> Record | None:
    try:
        words: dict[str, Any] = decoded(file.read_bytes(), "record of a restored database").raw
    except FileNotFoundError:
        return None
    except (OSError, DamageFound) as error:
        raise RestoreFailed("the record of a restored database cannot be read", on=str(file)) from error
    why = others_may_write(file.parent) or others_may_write(file)
    if why:
        raise RestoreFailed(
            f"the record of a restored database is not used: {why}",
            on=str(file),
            hint="run this as the user who restored; the folder and the file must be that user's alone",
        )
    try:
        return Record(**{_READ.get(name, name): value for name, value in words.items()})
    except (TypeError, AttributeError) as error:
        raise RestoreFailed("the record of a restored database cannot be read", on=str(file)) from error


def begun(restore: str, source: str, system: str, database: str, new: str) -> Record:
    return Record(restore, source, system, database, new, datetime.now(UTC).isoformat())


def system_of(session: psycopg.Connection[Row]) -> str:
    """The number that a server got when it was made; empty if this role may not read it."""
    import psycopg

    try:
        with session.transaction():
            row = session.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    except psycopg.Error:
        return ""
    return str(row[0]) if row else ""


def number_of(session: psycopg.Connection[Row], name: str) -> int | None:
    """The oid of the database of that name."""
    row = session.execute("SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,)).fetchone()
    return int(str(row[0])) if row else None


def name_of(session: psycopg.Connection[Row], number: int) -> str | None:
    """The present name of the database with that oid."""
    row = session.execute("SELECT datname::text FROM pg_database WHERE oid = %s::bigint", (number,)).fetchone()
    return str(row[0]) if row else None
