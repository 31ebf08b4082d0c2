"""What a store holds, read from its manifests alone: no catalog, no settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.archive import extract_member
from scriptorium.errors import DamageFound, NotFound, ScriptoriumError, ToolMissing, UsageError
from scriptorium.manifest import loads, manifest_key
from scriptorium.model import NOT_PROVEN, Annotations, BackupType, Manifest, Tier
from scriptorium.stores import LocalStore, Store
from scriptorium.stores.objects.layout import read_annotations, read_manifest, stored

_INNER = "manifest.json"
_SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True)
class InventoryItem:
    """One backup of a store. ``trouble``: why it cannot be counted on; nothing when it can, as far as a look says."""

    key: str
    bytes: int
    manifest: Manifest | None
    annotations: Annotations
    trouble: str = ""

    @property
    def state(self) -> str:
        if self.trouble:
            return f"damaged: {self.trouble}"
        if self.annotations.proof is not None and self.annotations.proof.proven:
            return "proven"
        return "verified" if self.annotations.verification else "complete"


def inventory(store: Store) -> tuple[InventoryItem, ...]:
    """Every backup that the store has, oldest first; one whose manifest cannot be read comes before all others."""
    found = []
    for one in stored(store):
        size = one.archive.size if one.archive else 0
        annotations = read_annotations(store, one.key)
        try:
            manifest = read_manifest(store, one.key)
        except (DamageFound, NotFound, ToolMissing) as error:
            found.append(InventoryItem(one.key, size, None, annotations, str(error)))
            continue
        found.append(
            InventoryItem(
                one.key, size, manifest, annotations, _trouble(manifest, annotations, one.archive is not None, size)
            )
        )
    return tuple(sorted(found, key=lambda one: (one.manifest.created_at.timestamp() if one.manifest else 0, one.key)))


def _trouble(manifest: Manifest, annotations: Annotations, present: bool, size: int) -> str:
    if not present:
        return "the archive is missing"
    if manifest.archive is not None and manifest.archive.bytes != size:
        return f"the archive has {size} bytes instead of {manifest.archive.bytes}"
    if annotations.verification is not None and not annotations.verification.sound:
        return "; ".join(annotations.verification.damage[:2]) or "it did not pass its verification"
    if annotations.proof is not None and annotations.proof.verdict == NOT_PROVEN:
        return "; ".join(annotations.proof.differences[:2]) or "it did not pass its drill"
    return ""


def choose(found: Sequence[InventoryItem], *, library: str | None = None, backup: str | None = None) -> InventoryItem:
    """The backup that is meant: by id (4 or more digits of it), name or archive name; else the newest sound full one,
    or where there is no full one, the newest sound one. ``NotFound``, ``UsageError``.

    What a safety backup holds was replaced for a reason: it is only taken where there is nothing else.
    """
    mine = [one for one in found if library in (None, one.key.partition("/")[0])]
    if backup is not None:
        return _named(mine, backup)
    libraries = sorted({one.key.partition("/")[0] for one in mine})
    if len(libraries) > 1:
        raise UsageError("the store holds several libraries", hint=f"--library with one of: {', '.join(libraries)}")
    sound = [one for one in mine if not one.trouble]
    if not sound:
        raise NotFound("there is no sound backup here", on=library or "", hint="name an archive to try it all the same")
    return max(enumerate(sound), key=lambda placed: (*_worth(placed[1]), placed[0]))[1]


def _worth(one: InventoryItem) -> tuple[bool, bool]:
    known = one.manifest
    return (
        known is not None and known.tier is not Tier.BEFORE_RESTORE,
        known is not None and known.type is BackupType.FULL,
    )


def _named(found: Sequence[InventoryItem], reference: str) -> InventoryItem:
    """A backup that is asked for by name is given even when it is damaged: the user has seen the list."""
    meant = [one for one in found if _answers_to(one, reference, whole=True)]
    meant = meant or [one for one in found if _answers_to(one, reference, whole=False)]
    if not meant:
        raise NotFound("there is no such backup here", on=reference, hint="without a target, what there is is listed")
    if len(meant) > 1:
        raise UsageError(f"'{reference}' means several backups", hint=", ".join(one.key for one in meant[:8]))
    return meant[0]


def _answers_to(one: InventoryItem, reference: str, *, whole: bool) -> bool:
    if reference in (one.key, one.key.rpartition("/")[2]):
        return True
    if one.manifest is None:
        return False
    if whole:
        return reference in (one.manifest.id, one.manifest.name)
    return len(reference) >= _SHORTEST_PREFIX and one.manifest.id.startswith(reference)


def archive_alone(archive: Path) -> tuple[LocalStore, InventoryItem]:
    """One archive by its path, with the manifest beside it; where that is missing or damaged, with the one inside.

    Raises ``NotFound``, ``DamageFound`` (then the archive cannot even tell what it holds).
    """
    archive = archive.absolute()
    store = LocalStore(path=archive.parent)
    try:
        manifest = loads(store.read_bytes(manifest_key(archive.name)))
    except (NotFound, DamageFound):
        with store.open(archive.name) as stream:
            manifest = dataclasses.replace(loads(extract_member(stream, _INNER)), archive=None)
    return store, InventoryItem(archive.name, archive.stat().st_size, manifest, Annotations())


def manifest_of(store: Store, holding: InventoryItem) -> Manifest:
    """The manifest to restore by; where the one beside the archive is damaged, the one inside. ``DamageFound``."""
    if holding.manifest is not None:
        return holding.manifest
    try:
        with store.open(holding.key) as stream:
            return loads(extract_member(stream, _INNER))
    except ScriptoriumError as error:
        raise DamageFound("neither manifest of this backup can be read", on=holding.key, hint=str(error)) from error
