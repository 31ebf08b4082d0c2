"""The catalog: every backup of every store, found by id, name or ``latest``."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scriptorium.catalog.index import read_index
from scriptorium.catalog.runs import runs
from scriptorium.catalog.status import preference, status_of
from scriptorium.errors import STORE_TROUBLE, NotFound, UsageError
from scriptorium.model import Backup, Copy, Manifest, Proof
from scriptorium.results import Listing, Problem
from scriptorium.settings import Settings
from scriptorium.stores.care import is_shut
from scriptorium.words import BackupType, Status, Tier

log = logging.getLogger(__name__)

_PREFIX = re.compile(r"[0-9a-f]{4,12}")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Reads the stores of the settings. Reading changes no state of this object; an outdated index file is replaced as
    a whole. Any number of threads and processes may read at once."""

    settings: Settings

    @property
    def _cache(self) -> Path:
        return self.settings.workspace_folder / "catalog"

    def rebuild(self) -> int:
        """Rebuild every index from the manifests alone; returns the number of copies."""
        began, stores = time.monotonic(), self.settings.stores
        copies = sum(len(read_index(store, self._cache, afresh=True)) for store in stores.values())
        log.info(
            "the indexes of %d stores are rebuilt: %d copies, in %.1f s", len(stores), copies, time.monotonic() - began
        )
        return copies

    def listing(
        self,
        *,
        library: str | None = None,
        type: BackupType | None = None,
        store: str | None = None,
        records: bool = True,
    ) -> Listing:
        """The backups in all stores, or in one. ``records``: also runs that left no copy (running, failed, cancelled).

        A store that does not answer becomes one of the ``problems``; the other stores are listed.
        """
        chosen = [self.settings.store(store)] if store else list(self.settings.stores.values())
        merged: dict[str, Backup] = {}
        problems = []
        for place in chosen:
            try:
                entries = read_index(place, self._cache)
            except STORE_TROUBLE as error:
                log.warning("%s could not be read, the other stores are listed: %s", place.name, error)
                problems.append(Problem(place.name, error.exact))
                continue
            for entry in entries:
                known = merged.get(entry.backup.id)
                merged[entry.backup.id] = _with_copy(known, entry.copy) if known else entry.backup
        for run in runs(self.settings) if store is None else ():
            known = merged.get(run.id)
            if known is not None:
                merged[run.id] = _lacking(known, run, self.settings.stores, [problem.store for problem in problems])
            elif records and run.status is not Status.DEGRADED:  # else its copies are gone, or their store is away
                merged[run.id] = run
        found = [
            backup
            for backup in merged.values()
            if (library is None or backup.library == library) and (type is None or backup.type == type)
        ]
        return Listing(sorted(found, key=lambda one: (one.created_at, one.id), reverse=True), tuple(problems))

    def backups(
        self,
        *,
        library: str | None = None,
        type: BackupType | None = None,
        store: str | None = None,
        records: bool = True,
    ) -> list[Backup]:
        """The backups of ``listing``, without the problems."""
        return self.listing(library=library, type=type, store=store, records=records).backups

    def find(self, reference: str, *, library: str | None = None, store: str | None = None) -> Backup:
        """The backup meant by an id, an unambiguous prefix of it (4 or more digits), a name, or ``latest``: the newest
        good backup that is not a safety backup.

        ``NotFound`` if there is none; ``UsageError`` if several are meant.
        """
        listing = self.listing(library=library, store=store)
        everything = listing.backups
        if reference == "latest":
            good = [backup for backup in everything if backup.status.good]
            if good:  # a safety backup is only the latest if there is no other
                return next((backup for backup in good if backup.tier is not Tier.BEFORE_RESTORE), good[0])
            raise _missing(listing, "there is no good backup yet", library or "", "take one: scriptorium create")
        named = [backup for backup in everything if _is_called(backup, reference)]
        if not named and _PREFIX.fullmatch(reference):
            named = [backup for backup in everything if backup.id.startswith(reference)]
        named = named or [backup for backup in everything if _may_be(backup, reference)]
        if not named:
            raise _missing(listing, "there is no such backup", reference, "scriptorium list shows what there is")
        named = [backup for backup in named if backup.copies] or named  # a backup comes before a failed run
        if len(named) > 1:
            ids = ", ".join(backup.id for backup in named[:8])
            raise UsageError(f"'{reference}' means several backups", hint=f"give one of these ids: {ids}")
        return named[0]

    def manifest(self, copy: Copy) -> Manifest:
        """The manifest beside a copy. ``NotFound`` or ``DamageFound``."""
        return self.settings.store(copy.store).manifest(copy.key)

    def proof(self, copy: Copy) -> Proof | None:
        """The result of the last drill of a copy."""
        return self.settings.store(copy.store).annotations(copy.key).proof

    def copy_of(self, backup: Backup, store: str | None = None) -> Copy:
        """The copy to read: that of the named store, else the best one (of equal ones, one on this machine)."""
        if store is not None:
            self.settings.store(store)
        copies: Sequence[Copy] = [copy for copy in backup.copies if store is None or copy.store == store]
        if not copies:
            there = ", ".join(copy.store for copy in backup.copies)
            raise NotFound(
                f"this backup has no copy in {f'the store {store}' if there else 'any store'}",
                on=backup.id,
                hint=f"it has one in: {there}" if there else f"it is {backup.status}: {backup.error}",
            )
        return self.ranked(copies)[0]

    def ranked(self, copies: Sequence[Copy]) -> list[Copy]:
        """Copies in the order in which they are read: the best first, of equal ones those on this machine."""
        remote = {name for name, place in self.settings.stores.items() if place.features.remote}
        shut = {copy.key for copy in copies if len(copies) > 1 and is_shut(self.settings.store(copy.store), copy.key)}

        def order(copy: Copy) -> tuple[object, ...]:
            return (not copy.status.good, copy.key in shut, preference(copy.status), copy.store in remote)

        return sorted(copies, key=order)


def _missing(listing: Listing, what: str, on: str, hint: str) -> NotFound:
    if listing.problems:
        hint = f"these stores could not be read: {', '.join(problem.store for problem in listing.problems)}"
    return NotFound(what, on=on, hint=hint)


def _is_called(backup: Backup, reference: str) -> bool:
    return reference in (backup.id, backup.name) or any(copy.label == reference for copy in backup.copies)


def _may_be(backup: Backup, reference: str) -> bool:
    """Whether it is a damaged one that is meant by the id or the name that it once had."""
    prefix = _PREFIX.fullmatch(reference) is not None
    return any(claim == reference or (prefix and claim.startswith(reference)) for claim in backup.claims)


def _lacking(backup: Backup, run: Backup, configured: Collection[str], silent: Collection[str]) -> Backup:
    """The backup with the copies that its run could not make, and that are still not there. If the run was cut short, a
    store that does not answer may have one."""
    if run.status is Status.RUNNING:
        return backup
    there = {copy.store for copy in backup.copies if copy.status.good or copy.disputed}
    missing = tuple(
        one
        for one in run.missing
        if one.store in configured and one.store not in there and (one.reason or one.store not in silent)
    )
    status = Status.DEGRADED if missing and backup.status.whole else backup.status
    return replace(backup, missing=missing, status=status)


def _with_copy(backup: Backup, copy: Copy) -> Backup:
    copies = (*backup.copies, copy)
    return replace(backup, copies=copies, status=status_of(copies))
