"""Drills: a copy is restored into a scratch place, compared with its manifest, judged by its preset, and tidied away.

What came out is the backup's proof; it is kept beside the manifest of the copy that was drilled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import workspace
from scriptorium.archive import listed_entries
from scriptorium.catalog import Catalog
from scriptorium.crashpoints import reach
from scriptorium.errors import DamageFound, RestoreFailed, UsageError
from scriptorium.manifest import new_id
from scriptorium.model import Backup, Check, Copy, Manifest, Proof, TableFacts
from scriptorium.proof import all_answers, compare_checks, fulfilled
from scriptorium.removal import remove_tree
from scriptorium.rescue import Read, Supply, load_parts, read_parts, source_of
from scriptorium.settings import Settings
from scriptorium.sources import Incoming
from scriptorium.stores.backups import read_manifest, read_marks, write_marks

Advance = Callable[[int], None]
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class DrillOrder:
    """A drill that is to be done: which backup, which copy of it."""

    id: str
    backup: Backup
    copy: Copy


def place_drill(
    settings: Settings, reference: str, *, library: str | None = None, store: str | None = None
) -> DrillOrder:
    """Find the backup and the copy to drill. ``NotFound``; ``UsageError`` for one that has no copy."""
    catalog = Catalog(settings)
    backup = catalog.find(reference, library=library)
    if not backup.copies:
        raise UsageError("this backup has no copy to drill", on=backup.id, hint=f"it is {backup.status}")
    return DrillOrder(new_id(), backup, catalog.copy_of(backup, store))


def run_drill(settings: Settings, order: DrillOrder, *, advance: Advance | None = None) -> Proof:
    """Restore the copy into a scratch place, compare, judge, tidy up, and keep the proof.

    Damage is a verdict and not an error: ``proven`` is false, with the first differences. What stands in the way of
    drilling at all (no room, no server, no engine) is raised.
    """
    store = settings.store(order.copy.store)
    room = workspace.drill_room(order.backup.library)  # a backup may begin meanwhile, and clears its own room only
    with (
        workspace.lock(settings, room, f"drill of {order.backup.id}"),
        workspace.reading(settings, order.backup.id),
        workspace.staging(settings, room, order.id) as scratch,
    ):
        reach("drill.locked")
        at, began = datetime.now(UTC), time.monotonic()
        try:
            manifest = read_manifest(store, order.copy.key)
            workspace.require_space(scratch, sum(part.bytes for part in manifest.parts), "the drill")
            rehearsed = _rehearse(settings, order, manifest, scratch, advance)
            proof = _proof(order, manifest, rehearsed, at, time.monotonic() - began)
        except (DamageFound, RestoreFailed) as error:
            proof = _disproof(order, at, time.monotonic() - began, error)
    reach("drill.before-marks")
    marks = read_marks(store, order.copy.key)
    write_marks(store, order.copy.key, replace(marks, proof=proof))
    return proof


@dataclass(frozen=True, slots=True)
class _Rehearsed:
    read: Read
    tables: Mapping[str, TableFacts]
    checks: tuple[Check, ...]


def _rehearse(
    settings: Settings, order: DrillOrder, manifest: Manifest, scratch: Path, advance: Advance | None
) -> _Rehearsed:
    library = settings.libraries.get(order.backup.library)
    known = {source.name: source for source in library.sources} if library else {}
    place = scratch / "restored"
    place.mkdir(mode=0o700)
    supply = Supply(settings.store(order.copy.store), order.copy.key, manifest)
    incoming: dict[str, Incoming] = {}
    try:
        for part in manifest.parts:
            incoming[part.source] = source_of(part, known, place).rehearsal(part, order.id, place)
            incoming[part.source].prepare()
        reach("drill.prepared")
        read = read_parts(supply, incoming, [scratch], advance=advance)
        reach("drill.unpacked")
        tables = load_parts(supply, incoming, read.parts)
        reach("drill.loaded")
        answers = all_answers(one.answers for one in incoming.values())
        checks = fulfilled(manifest.preset, answers, listed_entries(supply.open, manifest.files), manifest.parts)
    finally:
        for one in incoming.values():
            one.undo()
        with suppress(OSError):
            remove_tree(place)
    return _Rehearsed(read, tables, checks)


def _proof(order: DrillOrder, manifest: Manifest, rehearsed: _Rehearsed, at: datetime, seconds: float) -> Proof:
    worse = compare_checks(manifest.checks, rehearsed.checks)
    return Proof(
        at=at.replace(microsecond=0),
        store=order.copy.store,
        proven=not worse,
        seconds=round(seconds, 3),
        age_seconds=round((at - manifest.created_at).total_seconds(), 3),
        files=rehearsed.read.files,
        bytes=rehearsed.read.bytes,
        tables=len(rehearsed.tables),
        rows=sum(table.rows for table in rehearsed.tables.values()),
        checks=rehearsed.checks,
        differences=tuple(str(one) for one in worse[:_SHOWN]),
    )


def _disproof(order: DrillOrder, at: datetime, seconds: float, error: DamageFound | RestoreFailed) -> Proof:
    details = [line for line in error.hint.split("; ") if line]
    return Proof(
        at=at.replace(microsecond=0),
        store=order.copy.store,
        proven=False,
        seconds=round(seconds, 3),
        age_seconds=round((at - order.backup.created_at).total_seconds(), 3),
        files=0,
        bytes=0,
        tables=0,
        rows=0,
        differences=(str(error), *details)[:_SHOWN],
    )
