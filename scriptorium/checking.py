"""Verifying copies in their stores, and remembering what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scriptorium import workspace
from scriptorium.errors import NotFound
from scriptorium.manifest import manifest_key
from scriptorium.model import Backup, Copy, Verification
from scriptorium.settings import Settings
from scriptorium.stores.backups import read_marks, write_marks
from scriptorium.verify import verify_copy

Advance = Callable[[int], None]


def verify_stored(settings: Settings, backup_id: str, copy: Copy, *, advance: Advance | None = None) -> Verification:
    """Read one copy back, compare every hash, and keep the outcome beside its manifest."""
    store = settings.store(copy.store)
    with workspace.reading(settings, backup_id):
        try:
            manifest = store.read_bytes(manifest_key(copy.key))
        except NotFound:
            manifest = None
        name = copy.key.rpartition("/")[2]
        verification = verify_copy(lambda: store.open(copy.key), manifest, name=name, size=None, advance=advance)
        if manifest is not None:
            marks = read_marks(store, copy.key)
            write_marks(store, copy.key, replace(marks, verification=verification))
    return verification


def pin(settings: Settings, backup: Backup, *, pinned: bool) -> None:
    """Pin or unpin every copy of a backup. ``NotFound`` when it has none."""
    if not backup.copies:
        raise NotFound("this backup has no copy", on=backup.id, hint=f"it is {backup.status}")
    for copy in backup.copies:
        store = settings.store(copy.store)
        write_marks(store, copy.key, replace(read_marks(store, copy.key), pinned=pinned))


def portion(backups: Sequence[Backup], part: int, parts: int) -> list[Backup]:
    """The n-th of t shares of the backups, by id, so that t runs read everything (``--read-data N/T``)."""
    return [backup for backup in backups if int(backup.id, 16) % parts == part % parts]
