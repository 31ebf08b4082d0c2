"""The fingerprints of a database that is being loaded: a table is read as soon as it has rows, while others are loaded.

``pg_restore`` loads a table in one transaction, so a table with visible rows has all of them. This is not relied upon:
an early fingerprint counts only if it is that of the backup; all other tables are read again at the end. A table cannot
be read while its primary key is built, so it is read before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from scriptorium.errors import ToolFailed
from scriptorium.model import TableFingerprint
from scriptorium.sources.postgres.computing import Uncomputable
from scriptorium.sources.postgres.connection import Address, Row, sql
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.fingerprint import (
    LARGE_OBJECTS,
    Relation,
    large_objects,
    regenerated_columns,
    relations,
    table_fingerprint,
    take_fingerprints,
)
from scriptorium.sources.postgres.spread import as_recorded
from scriptorium.sources.postgres.views import rebuilt_views

if TYPE_CHECKING:
    import psycopg

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """The fingerprints of a database. ``missing``: what cannot be compared, and why; ``rebuilt``: views that have other
    rows because a restore filled them again, and why."""

    tables: Mapping[str, TableFingerprint]
    missing: Mapping[str, str]
    rebuilt: Mapping[str, str]

    def compared(self, name: str) -> bool:
        return name not in self.missing and name not in self.rebuilt

    def differing(self, expected: Mapping[str, TableFingerprint]) -> list[str]:
        """The tables that differ from what was recorded, or that were not recorded."""
        names = expected.keys() | self.tables.keys()
        return sorted(name for name in names if self.compared(name) and self.tables.get(name) != expected.get(name))


def not_compared(rebuilt: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name} is not compared: {why}" for name, why in rebuilt.items())


def fingerprints_now(session: psycopg.Connection[Row], expected: Mapping[str, TableFingerprint]) -> Found:
    """The fingerprints of everything in the database, taken like the ``expected`` ones. If the server distributed rows
    differently over partitions, and all partitions together have the recorded rows, the recorded fingerprints are
    returned for them."""
    there = relations(session)
    found = take_fingerprints(session, there, expected=expected)
    tables = {**found.tables, **as_recorded(session, found.tables, expected)}
    missing = {**found.missing, **regenerated_columns(there, tables, expected)}
    return Found(tables, missing, rebuilt_views(there, tables, expected))


class Reading:
    """Reads the tables and sequences of ``address`` in a separate thread, until the block is left.

    ``expected``: the fingerprints of the backup by the tables' names.
    """

    def __init__(self, address: Address, expected: Mapping[str, TableFingerprint]) -> None:
        self._address = address
        self._expected = expected
        self._read: dict[str, TableFingerprint] = {}
        self.missing: dict[str, str] = {}
        self._complete = threading.Event()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        session = self._ending.enter_context(self._address.session(application="scriptorium restore"))
        # Before any table is locked for loading: the sizes in the list cannot be read while a table is locked.
        found = [one for one in relations(session) if one.kind in "rS"]
        arguments = (session, found)
        self._thread = threading.Thread(target=self._work, args=arguments, daemon=True, name="reading what is restored")
        self._ending.callback(self._stop, session)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _stop(self, session: psycopg.Connection[Row]) -> None:
        self._over.set()
        self._complete.set()
        while self._thread.is_alive():
            session.cancel()
            self._thread.join(timeout=_LOOK_SECONDS)

    def all_loaded(self) -> None:
        """Called when all rows are loaded: the remaining tables can be read now."""
        self._complete.set()

    def fingerprints(self) -> dict[str, TableFingerprint]:
        """Wait until everything is read; returns the fingerprints by name. Raises the error of the thread."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return dict(self._read)

    def _work(self, session: psycopg.Connection[Row], found: list[Relation]) -> None:
        try:
            with translating_errors(self._address):
                self._early(session, found)
                self._rest(session, found)
        except BaseException as error:  # noqa: BLE001 -- raised again where the fingerprints are asked for
            self._failure = error

    def _early(self, session: psycopg.Connection[Row], found: list[Relation]) -> None:
        """Until all rows are loaded, read the tables that have rows, one after the other."""
        left = [
            one for one in found if one.kind == "r" and one.name in self._expected and self._expected[one.name].rows
        ]
        while not self._complete.is_set():
            loaded = next((one for one in left if _has_rows(session, one)), None)
            if loaded is None:
                self._complete.wait(_LOOK_SECONDS)
                continue
            left.remove(loaded)
            with contextlib.suppress(Uncomputable):
                fingerprint = table_fingerprint(session, loaded, self._expected[loaded.name])
                if fingerprint == self._expected[loaded.name]:
                    self._read[loaded.name] = fingerprint

    def _rest(self, session: psycopg.Connection[Row], found: list[Relation]) -> None:
        """Read the remaining tables, the largest first: the indexes of the others are built meanwhile."""
        session.execute("SET lock_timeout = 0")
        rows = {name: fingerprint.rows for name, fingerprint in self._expected.items()}
        for one in sorted(found, key=lambda one: -rows.get(one.name, 0)):
            if self._over.is_set():
                return
            if one.name not in self._read:
                try:
                    self._read[one.name] = table_fingerprint(session, one, self._expected.get(one.name))
                except Uncomputable as error:
                    if session.execute("SELECT FROM pg_class WHERE oid = %s", (one.oid,)).fetchone() is None:
                        raise ToolFailed("a table vanished while it was restored", on=one.name) from error
                    self.missing[one.name] = str(error)
        objects = large_objects(session)
        if objects is not None:
            self._read[LARGE_OBJECTS] = objects


def _has_rows(session: psycopg.Connection[Row], one: Relation) -> bool:
    """Whether rows are visible. A table that is being loaded is locked; this does not wait for it."""
    import psycopg

    session.execute("SET lock_timeout = '20ms'")
    try:
        row = session.execute(sql(f"SELECT EXISTS (SELECT FROM ONLY {one.sql})")).fetchone()
    except psycopg.errors.LockNotAvailable:
        return False
    return bool(row and row[0])
