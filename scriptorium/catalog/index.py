"""``backup_index.json``: the backups of a store, in one small file.

It is a cache. Every reading compares the stamp of each entry (sizes and times of the backup's objects) with the
store's listing, and reads only what has changed. So a file that was added, removed or changed by hand is noticed. An
index that is missing or unreadable is rebuilt from the manifests, and so is each entry that somebody else has changed
(its seal is the hash of the rest). No restore ever needs the index.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from scriptorium.catalog.status import judge_copy
from scriptorium.errors import STORE_TROUBLE, DamageFound, NotFound, ScriptoriumError, ToolMissing
from scriptorium.fs import atomic
from scriptorium.manifest import DamagedManifest, Record, decoded, encoded, unrecorded
from scriptorium.model import Annotations, Backup, Copy, Manifest
from scriptorium.stores import BackupStore, StoredBackup
from scriptorium.words import BackupType, Status, Tier

log = logging.getLogger(__name__)

INDEX_NAME = "backup_index.json"
_FORMAT = 7


@dataclass(frozen=True, slots=True)
class Entry:
    """A backup as one store has it."""

    backup: Backup
    stamp: str

    @property
    def copy(self) -> Copy:
        return self.backup.copies[0]


def index_file(store: BackupStore, cache: Path) -> Path:
    """The index file: beside the backups if the store has a folder for it, else in our own folder."""
    folder = store.index_folder
    return folder / INDEX_NAME if folder is not None else cache / f"{store.name}.{INDEX_NAME}"


def read_index(store: BackupStore, cache: Path, *, afresh: bool = False) -> list[Entry]:
    """The backups of the store, oldest first. The file is updated if it is not up to date."""
    file = index_file(store, cache)
    known = {} if afresh else _load(file, store)
    entries, changed = [], afresh
    for found in store.list():
        entry = known.pop(found.key, None)
        if entry is None or entry.stamp != found.stamp:
            entry = _read_entry(store, found)
            changed = True
        entries.append(entry)
    if changed or known:
        log.info("the index of %s is updated: %d copies", store.name, len(entries))
        _save(file, store, entries)
    return sorted(entries, key=lambda entry: (entry.backup.created_at, entry.backup.id))


def _read_entry(store: BackupStore, found: StoredBackup) -> Entry:
    try:
        manifest = store.manifest(found.key)
    except (DamageFound, NotFound, ToolMissing) as error:
        return Entry(_unreadable(store, found, error), found.stamp)
    except STORE_TROUBLE as error:
        if store.features.remote:
            raise
        # One file that cannot be read on a disk that works: the others must be listed, above all if the disk is dying.
        return Entry(_unreadable(store, found, error), "")
    return Entry(_backup(store, found, manifest, store.annotations(found.key)), found.stamp)


def _backup(store: BackupStore, found: StoredBackup, manifest: Manifest, annotations: Annotations) -> Backup:
    judgement = judge_copy(
        annotations, unsaved=manifest.unsaved_count, visible_damage=store.visible_damage(found, manifest)
    )
    copy = Copy(
        store=store.name,
        key=found.key,
        bytes=found.bytes,
        status=judgement.status,
        pinned=annotations.pinned,
        verified_at=annotations.verification.at if annotations.verification else None,
        damage=judgement.damage,
        proven_at=annotations.proof.at if annotations.proof and annotations.proof.proven else None,
        drilled_at=annotations.proof.at if annotations.proof else None,
        verdict=annotations.proof.verdict if annotations.proof else "",
        recovery_seconds=annotations.proof.seconds if annotations.proof else None,
        disputed=judgement.disputed,
    )
    return Backup(
        id=manifest.id,
        name=manifest.name,
        library=manifest.library,
        type=manifest.type,
        tier=manifest.tier,
        created_at=manifest.created_at,
        description=manifest.description,
        bytes=found.bytes,
        status=copy.status,
        copies=(copy,),
        parts=tuple(part.source for part in manifest.parts),
        warnings=len(manifest.warnings),
        unrecorded=unrecorded(manifest),
        unsaved=manifest.unsaved_count,
        original_sha256=manifest.original_sha256,
    )


def _unreadable(store: BackupStore, found: StoredBackup, error: ScriptoriumError) -> Backup:
    """A backup whose manifest cannot be trusted is listed as damaged, with an id that is made from its key. It is also
    found by what its manifest still says it is, and by the name of its archive."""
    identity = hashlib.sha256(found.key.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    claims: tuple[str, ...] = (found.label.partition(".tar")[0],)
    what = error.exact
    if isinstance(error, DamagedManifest):
        claims = tuple(dict.fromkeys(one for one in (error.id, error.name, *claims) if one))
        what = f"{what}; it says that it is the backup {error.id}" if error.id else what
    copy = Copy(store.name, found.key, found.bytes, Status.DAMAGED, damage=(what,))
    return Backup(
        id=identity,
        name=found.label,
        library=found.library,
        type=BackupType.FULL,
        tier=Tier.MANUAL,
        created_at=found.modified.astimezone(UTC).replace(microsecond=0),
        description="",
        bytes=found.bytes,
        status=Status.DAMAGED,
        copies=(copy,),
        error=what,
        claims=claims,
    )


def _load(file: Path, store: BackupStore) -> dict[str, Entry]:
    """Entries by key. An entry that cannot be read, that we did not write, or that belongs to a store at another place
    is ignored."""
    try:
        rows = decoded(file.read_bytes(), INDEX_NAME).raw.values()
    except (OSError, DamageFound):
        return {}
    entries: dict[str, Entry] = {}
    for row in rows:
        with contextlib.suppress(DamageFound):
            found = Record(row, INDEX_NAME)
            more = found.record("metadata")
            seal = more.raw.pop("seal", None)
            if seal == _seal(found.raw) and more.number("format") == _FORMAT:
                entry = _parse(found, more, store.name)
                if found.text("file_path") == store.location(entry.copy.key):
                    entries[entry.copy.key] = entry
    return entries


def _seal(row: dict[str, object]) -> str:
    """The hash of an entry without its seal."""
    return hashlib.sha256(encoded(row, ordered=True)).hexdigest()[:16]


def _parse(row: Record, more: Record, store: str) -> Entry:
    copy = Copy(
        store=store,
        key=more.text("key"),
        bytes=row.number("file_size"),
        status=row.word("status", Status),
        pinned=more.flag("pinned"),
        verified_at=more.optional_instant("verified_at"),
        damage=more.texts("damage"),
        proven_at=more.optional_instant("proven_at"),
        drilled_at=more.optional_instant("drilled_at"),
        verdict=more.text("verdict"),
        recovery_seconds=more.optional_seconds("recovery_seconds"),
        disputed=more.flag("disputed"),
    )
    backup = Backup(
        id=row.text("id"),
        name=row.text("name"),
        library=more.text("library"),
        type=row.word("backup_type", BackupType),
        tier=more.word("tier", Tier),
        created_at=row.instant("created_at"),
        description=row.text("description"),
        bytes=copy.bytes,
        status=copy.status,
        copies=(copy,),
        parts=more.texts("parts"),
        warnings=more.number("warnings"),
        error=more.text("error"),
        unrecorded=more.texts("unrecorded"),
        unsaved=more.number("unsaved"),
        original_sha256=more.text("original_sha256"),
        claims=more.texts("claims"),
    )
    return Entry(backup, more.text("stamp"))


def _row(store: BackupStore, entry: Entry) -> dict[str, object]:
    backup, copy = entry.backup, entry.copy
    metadata: dict[str, object] = {
        "format": _FORMAT,
        "library": backup.library,
        "tier": str(backup.tier),
        "key": copy.key,
        "stamp": entry.stamp,
        "pinned": copy.pinned,
        "verified_at": copy.verified_at.isoformat() if copy.verified_at else None,
        "damage": list(copy.damage),
        "proven_at": copy.proven_at.isoformat() if copy.proven_at else None,
        "drilled_at": copy.drilled_at.isoformat() if copy.drilled_at else None,
        "verdict": copy.verdict,
        "recovery_seconds": copy.recovery_seconds,
        "disputed": copy.disputed,
        "parts": list(backup.parts),
        "warnings": backup.warnings,
        "unrecorded": list(backup.unrecorded),
        "unsaved": backup.unsaved,
        "original_sha256": backup.original_sha256,
        "error": backup.error,
        "claims": list(backup.claims),
    }
    row: dict[str, object] = {
        "id": backup.id,
        "name": backup.name,
        "backup_type": str(backup.type),
        "created_at": backup.created_at.isoformat(),
        "file_path": store.location(copy.key),
        "file_size": copy.bytes,
        "status": str(copy.status),
        "description": backup.description,
        "metadata": metadata,
    }
    metadata["seal"] = _seal(row)
    return row


def _save(file: Path, store: BackupStore, entries: list[Entry]) -> None:
    """Replace the file atomically. It is a cache: that it cannot be written is no error."""
    rows: dict[str, object] = {}
    for entry in entries:
        rows[entry.backup.id if entry.backup.id not in rows else entry.copy.key] = _row(store, entry)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.sweep(file.parent, atomic.exactly(file.name))
        atomic.write(file, encoded(rows, indent=1), failpoint="index")
