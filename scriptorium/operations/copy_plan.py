"""Which backups are copied where, and from which copies. Nothing is changed here."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scriptorium.catalog import Catalog
from scriptorium.errors import (
    STORE_TROUBLE,
    DamageFound,
    KeyMissing,
    NotFound,
    ScriptoriumError,
    ToolMissing,
    UsageError,
)
from scriptorium.manifest import database_kind_of, label_of
from scriptorium.model import Backup, Copy, Manifest
from scriptorium.operations.copies import free_label
from scriptorium.operations.prune_plan import kept_by_retention
from scriptorium.requests import CopyRequest
from scriptorium.results import Copied, CopyResult, PlannedCopy
from scriptorium.settings import Settings
from scriptorium.stores import BackupStore
from scriptorium.stores.care import Transferring, lock_of, require_key, sealed_for_others

log = logging.getLogger(__name__)

_UNREADABLE = (*STORE_TROUBLE, NotFound, DamageFound, KeyMissing)


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What is copied. ``present``: the backups and stores that need nothing; ``failed``: the stores that do not answer,
    so that nothing can be planned for them."""

    copies: tuple[PlannedCopy, ...]
    present: tuple[tuple[Backup, str], ...] = ()
    failed: Mapping[str, ScriptoriumError] = field(default_factory=dict)
    dry_run: bool = False


def outcome(
    plan: CopyPlan, copied: Sequence[Copied] = (), failed: Mapping[str, ScriptoriumError] | None = None
) -> CopyResult:
    """The result of a plan; without copies, of one that was not carried out."""
    return CopyResult(plan.copies, tuple(copied), plan.present, dict(failed or plan.failed), plan.dry_run)


def plan_copy(settings: Settings, request: CopyRequest) -> CopyPlan:
    """What goes where, and from which copies. Changes nothing. ``NotFound``, ``KeyMissing``."""
    stores = [settings.store(name).name for name in dict.fromkeys(request.to)]
    if request.missing:
        return _plan_missing(settings, request, stores)
    catalog = Catalog(settings)
    backup = catalog.find(request.reference, library=request.library)
    catalog.copy_of(backup, request.store)  # says which stores have one
    targets = stores or [one.name for one in settings.targets(backup.tier)]
    silent = _errors_of(settings, targets)
    planned, present = [], []
    for store in (one for one in targets if one not in silent):
        one = planned_copy(settings, backup, store, request.store, sealed_anew=True)
        if one is None:
            present.append((backup, store))
        else:
            planned.append(one)
            if one.unread is None:
                readable(settings, one)
    return CopyPlan(tuple(planned), tuple(present), silent, dry_run=request.dry_run)


def _plan_missing(settings: Settings, request: CopyRequest, stores: Sequence[str]) -> CopyPlan:
    """Every backup that retention keeps, newest first, into the stores of its tier that have no good copy of it."""
    libraries = [settings.library(request.library).name] if request.library else list(settings.libraries)
    listing = Catalog(settings).listing(library=request.library, records=False)
    silent = _errors_of(settings, [problem.store for problem in listing.problems])
    kept = {
        (library, store): kept_by_retention(settings, library, store)
        for library in libraries
        for store in settings.stores
    }
    planned, failed = [], dict[str, ScriptoriumError]()
    for backup in listing.backups:
        if backup.library not in libraries:
            continue
        for store in (one.name for one in settings.targets(backup.tier)):
            if (stores and store not in stores) or backup.id not in kept[backup.library, store]:
                continue
            if store in silent:
                failed[store] = silent[store]
            elif (one := planned_copy(settings, backup, store)) is not None:
                planned.append(one)
    return CopyPlan(tuple(planned), failed=failed, dry_run=request.dry_run)


def _errors_of(settings: Settings, stores: Sequence[str]) -> Mapping[str, ScriptoriumError]:
    """Why these stores cannot be listed; those that answer now are left out."""
    found: dict[str, ScriptoriumError] = {}
    for store in stores:
        try:
            _require_answer(settings.store(store))
        except STORE_TROUBLE as error:
            found[store] = error
    return found


def _require_answer(store: BackupStore, library: str = "") -> None:
    """Raise what is wrong with a store that cannot be listed: what it lacks is not known then."""
    next(iter(store.list(library)), None)


def planned_copy(
    settings: Settings, backup: Backup, store: str, source: str | None = None, *, sealed_anew: bool = False
) -> PlannedCopy | None:
    """The copy that the store needs; ``None`` if it has a good one that was read back. ``sealed_anew``: one that is
    encrypted for others than the store's recipients now is made again."""
    there = [copy for copy in backup.copies if copy.store == store]
    good = [copy for copy in there if copy.status.good or copy.disputed]
    old = [copy for copy in good if sealed_anew and sealed_for_others(settings.store(store), copy.key)]
    if old:
        new = next((copy for copy in good if copy not in old), None)
        ranked = Catalog(settings).ranked([copy for copy in backup.copies if source in (None, copy.store)])
        return PlannedCopy(backup, tuple(ranked), store, unread=new, outdated=old[0])
    if any(copy.verified_at for copy in good):
        return None
    others = [copy for copy in backup.copies if copy.store != store and source in (None, copy.store)]
    if not others and not good:
        raise UsageError("a copy cannot be made from the store that it goes to", on=store, hint="name another store")
    ranked = Catalog(settings).ranked(others)
    unread = good[0] if good else None
    return PlannedCopy(backup, tuple(ranked), store, replaced=there[0] if there and not good else None, unread=unread)


@dataclass(frozen=True, slots=True)
class Source:
    """A copy that can be read, and its manifest as it lies there. ``label``: what the new copy is called."""

    store: BackupStore
    copy: Copy
    manifest: Manifest
    label: str
    as_it_is: bool


def readable(settings: Settings, planned: PlannedCopy) -> list[Source]:
    """The copies that can be read, best first. The first error where there is none: ``KeyMissing``, ``DamageFound``."""
    errors: list[ScriptoriumError] = []
    found = []
    for one in planned.sources:
        try:
            found.append(_source(settings, planned, one))
        except _UNREADABLE as error:
            log.warning("the copy of %s in %s cannot be read: %s", planned.backup.id, one.store, error)
            errors.append(error)
    if not found:
        raise errors[0]
    return found


def _source(settings: Settings, planned: PlannedCopy, one: Copy) -> Source:
    store, target = settings.store(one.store), settings.store(planned.to)
    manifest, label = store.manifest(one.key), label_of(one.label)
    if manifest.id != planned.backup.id:
        raise DamageFound("the manifest there is another backup's", on=store.location(one.key))
    if _taken(target, planned, label):
        kind = database_kind_of(label)
        label = free_label([target], manifest.library, manifest.type, manifest.created_at, kind)
    as_it_is = isinstance(target, Transferring) and target.takes(store, one.key, manifest, label)
    if not as_it_is:
        require_key(store, one.key)
    return Source(store, one, manifest, label, as_it_is)


def _taken(target: BackupStore, planned: PlannedCopy, label: str) -> bool:
    """Whether another backup has the name there. What an earlier try left unfinished, and a damaged copy that can be
    removed, are replaced."""
    for found in target.list(planned.backup.library):
        if label_of(found.label) == label:
            replaced = planned.replaced is not None and planned.replaced.key == found.key
            if not replaced or lock_of(target, found.key) is not None:
                return True
    return False


def stored_before(settings: Settings, planned: PlannedCopy) -> Copy | None:
    """A copy that an earlier try, or somebody else, has put into the store since this one was planned. A damaged copy
    that the plan replaces is none, unless it has been found sound since."""
    target, backup = settings.store(planned.to), planned.backup
    labels = {label_of(copy.label) for copy in backup.copies}
    for found in target.list(backup.library):
        label = label_of(found.label)
        if label in labels or re.sub(r"-[0-9]+$", "", label) in labels:
            with contextlib.suppress(NotFound, DamageFound, ToolMissing):
                if target.manifest(found.key).id == backup.id and not _still_damaged(target, planned, found.key):
                    return Copy(planned.to, found.key, found.bytes, backup.status)
    return None


def _still_damaged(target: BackupStore, planned: PlannedCopy, key: str) -> bool:
    """Whether the plan replaces this copy, and nothing has found it sound since."""
    if planned.replaced is None or planned.replaced.key != key:
        return False
    found = target.annotations(key).verification
    return found is None or not found.sound or found.at == planned.replaced.verified_at
