"""The backups in a store, read from its manifests only: no catalog and no settings are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.catalog.status import judge_copy
from scriptorium.errors import DamageFound, KeyMissing, NotFound, ScriptoriumError, ToolMissing, UsageError
from scriptorium.model import Manifest
from scriptorium.stores import Age, BackupStore, LocalStore, StoredBackup
from scriptorium.words import BackupType, Status, Tier

_SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True)
class InventoryItem:
    """One backup of a store. ``trouble``: why it cannot be relied on; empty if nothing wrong is known."""

    key: str
    library: str
    label: str
    bytes: int
    manifest: Manifest | None
    status: Status = Status.COMPLETE
    trouble: str = ""

    @property
    def state(self) -> str:
        return f"damaged: {self.trouble}" if self.trouble else str(self.status)


def inventory(store: BackupStore) -> tuple[InventoryItem, ...]:
    """Every backup in the store, oldest first; those whose manifest cannot be read come before all others."""
    found = [_item(store, one) for one in store.list()]
    return tuple(sorted(found, key=lambda one: (one.manifest.created_at.timestamp() if one.manifest else 0, one.key)))


def _item(store: BackupStore, one: StoredBackup) -> InventoryItem:
    try:
        manifest = store.manifest(one.key)
    except (DamageFound, NotFound, ToolMissing) as error:
        return InventoryItem(one.key, one.library, one.label, one.bytes, None, Status.DAMAGED, str(error))
    judged = judge_copy(
        store.annotations(one.key), unsaved=manifest.unsaved_count, visible_damage=store.visible_damage(one, manifest)
    )
    trouble = ""
    if judged.status is Status.DAMAGED:
        trouble = "; ".join(judged.damage[:2]) or "it did not pass its last verification or drill"
    return InventoryItem(one.key, one.library, one.label, one.bytes, manifest, judged.status, trouble)


def choose(found: Sequence[InventoryItem], *, library: str | None = None, backup: str | None = None) -> InventoryItem:
    """The backup that is meant: by id (4 or more digits of it), name or archive name; else the newest sound full one,
    or if there is no full one, the newest sound one. ``NotFound``, ``UsageError``.

    A safety backup is only chosen if there is no other: its contents were replaced for a reason.
    """
    mine = [one for one in found if library in (None, one.library)]
    if backup is not None:
        return _named(mine, backup)
    libraries = sorted({one.library for one in mine})
    if len(libraries) > 1:
        raise UsageError("the store contains several libraries", hint=f"--library with one of: {', '.join(libraries)}")
    sound = [one for one in mine if not one.trouble]
    if not sound:
        raise NotFound("there is no sound backup here", on=library or "", hint="name an archive to try it anyway")
    return max(enumerate(sound), key=lambda placed: (*_worth(placed[1]), placed[0]))[1]


def _worth(one: InventoryItem) -> tuple[bool, bool]:
    known = one.manifest
    return (
        known is not None and known.tier is not Tier.BEFORE_RESTORE,
        known is not None and known.type is BackupType.FULL,
    )


def _named(found: Sequence[InventoryItem], reference: str) -> InventoryItem:
    """The backup of this name, even if it is damaged: the user has seen the list."""
    meant = [one for one in found if _answers_to(one, reference, whole=True)]
    meant = meant or [one for one in found if _answers_to(one, reference, whole=False)]
    if not meant:
        raise NotFound("there is no such backup here", on=reference, hint="without a TARGET, the backups are listed")
    if len(meant) > 1:
        raise UsageError(f"'{reference}' means several backups", hint=", ".join(one.key for one in meant[:8]))
    return meant[0]


def _answers_to(one: InventoryItem, reference: str, *, whole: bool) -> bool:
    if reference in (one.key, one.label):
        return True
    if one.manifest is None:
        return False
    if whole:
        return reference in (one.manifest.id, one.manifest.name)
    return len(reference) >= _SHORTEST_PREFIX and one.manifest.id.startswith(reference)


def archive_alone(archive: Path, age: Age | None = None) -> tuple[LocalStore, InventoryItem]:
    """One archive by its path, with the manifest beside it; if that is missing or damaged, with the one inside.

    Raises ``NotFound``; ``DamageFound`` if the manifest inside cannot be read either.
    """
    archive = archive.absolute()
    store = LocalStore(path=archive.parent, age=age)
    try:
        manifest = store.manifest(archive.name)
    except (NotFound, DamageFound):
        manifest = dataclasses.replace(store.enclosed_manifest(archive.name), archive=None)
    size = archive.stat().st_size
    return store, InventoryItem(archive.name, manifest.library, archive.name, size, manifest)


def manifest_of(store: LocalStore, item: InventoryItem) -> Manifest:
    """The manifest for the restore; if the one beside the archive is damaged, the one inside. ``DamageFound``."""
    if item.manifest is not None:
        return item.manifest
    try:
        return store.enclosed_manifest(item.key)
    except KeyMissing:
        raise
    except ScriptoriumError as error:
        raise DamageFound("neither manifest of this backup can be read", on=item.key, hint=str(error)) from error
