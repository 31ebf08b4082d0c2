"""What is in a living database: the numbers (oid) of its tables, and their fingerprints.

A restore in place and its undo are each one transaction that makes the tables anew. So the numbers show whether it was
committed, whatever was written since, and the fingerprints show whether anything was written since.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scriptorium.errors import NoSpace
from scriptorium.fs import atomic
from scriptorium.manifest import decoded, encoded
from scriptorium.model import TableFingerprint
from scriptorium.sources.postgres.connection import Row, sql
from scriptorium.sources.postgres.fingerprint import LARGE_OBJECTS, relations
from scriptorium.sources.postgres.restore.comparison import fingerprints_now

if TYPE_CHECKING:
    import psycopg


class Remade(Enum):
    """Which of the tables have other numbers than before."""

    NONE = "none"
    SOME = "some"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Contents:
    """``numbers`` of tables by name; ``tables``: their fingerprints, ``None`` if they are not known."""

    numbers: Mapping[str, int]
    tables: Mapping[str, TableFingerprint] | None = None

    def write(self, file: Path) -> None:
        """``NoSpace`` if the disk is full."""
        tables = self.tables
        found = None if tables is None else {name: [one.rows, one.fingerprint] for name, one in tables.items()}
        try:
            atomic.write(file, encoded({"numbers": dict(self.numbers), "tables": found}))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            hint = "free some space, or set 'staging' to a folder on a larger disk"
            raise NoSpace("there is no space for the record of the restore", on=str(file.parent), hint=hint) from error

    @classmethod
    def read(cls, file: Path) -> Contents | None:
        """``None`` if there is no such record; an earlier version wrote an empty file."""
        data = file.read_bytes() if file.exists() else b""
        if not data:
            return None
        words: dict[str, Any] = decoded(data, "record of a restore in place").raw
        tables = words["tables"]
        if tables is not None:
            tables = {name: TableFingerprint(*one) for name, one in tables.items()}
        return cls({name: int(number) for name, number in words["numbers"].items()}, tables)

    def remade(self, now: Mapping[str, int], among: Collection[str] | None) -> Remade:
        """Which tables have other numbers ``now``; ``among``: those that a dump contains, ``None`` if not known."""
        known = [name for name in self.numbers if among is None or name in among]
        changed = [name for name in known if now.get(name) != self.numbers[name]]
        if not known:
            came = any(name in now for name in (now if among is None else among))
            return Remade.ALL if came else Remade.NONE
        return Remade.ALL if len(changed) == len(known) else Remade.SOME if changed else Remade.NONE


def numbers_now(session: psycopg.Connection[Row]) -> dict[str, int]:
    return {one.name: one.oid for one in relations(session)}


def settled_numbers(session: psycopg.Connection[Row]) -> dict[str, int]:
    """The same. Tables that a transaction is replacing are locked: this waits for its end, and looks again."""
    import psycopg

    while True:
        found = relations(session)
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            for one in found:
                if one.kind == "r" and one.readable:
                    session.execute(sql(f"SELECT FROM ONLY {one.sql} LIMIT 0"))
            if (numbers := numbers_now(session)) == {one.name: one.oid for one in found}:
                return numbers


def contents_now(session: psycopg.Connection[Row], like: Mapping[str, TableFingerprint]) -> Contents:
    """What is there now; fingerprints are taken like these."""
    return Contents(settled_numbers(session), fingerprints_now(session, like).tables)


def differing(session: psycopg.Connection[Row], expected: Mapping[str, TableFingerprint]) -> list[str]:
    """The tables that differ from these fingerprints, or have none."""
    return fingerprints_now(session, expected).differing(expected)


def written(
    session: psycopg.Connection[Row],
    baseline: Mapping[str, TableFingerprint],
    may_be_gone: Collection[str],
) -> list[str]:
    """The tables that were written to since they had these fingerprints. ``may_be_gone``: a restore, or an undo that
    was killed, may have dropped these, and all large objects."""
    found = fingerprints_now(session, baseline)
    gone = {name for name in (*may_be_gone, LARGE_OBJECTS) if name not in found.tables}
    return [name for name in found.differing(baseline) if name not in gone]
