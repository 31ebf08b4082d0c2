"""The mounts that the folders of stores are on: noted with each copy, so that one that is missing later is noticed.

A file for each store, ``<workspace>/mounts/<store>``: its folder and the mount point, with a zero byte between them.
Without this, a backup would begin anew in the empty folder below the mount, on the wrong disk.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from scriptorium.errors import StoreRefused
from scriptorium.fs import atomic
from scriptorium.fs.mounts import mount_of
from scriptorium.settings import Settings
from scriptorium.stores import BackupStore


def require_mounted(settings: Settings, store: BackupStore) -> None:
    """``StoreRefused`` if the folder of a store is empty or away, and was on a mount that is not there now."""
    folder = store.folder
    if folder is None:
        return
    with contextlib.suppress(FileNotFoundError):
        noted, _, mount = _note(settings, store.name).read_bytes().partition(b"\0")
        if noted != os.fsencode(folder) or mount == os.fsencode(mount_of(folder)) or _has_something(folder):
            return
        raise StoreRefused(
            f"the disk of this store is not mounted: it was at {os.fsdecode(mount)}",
            on=str(folder),
            hint=f"mount it; to begin anew without it: scriptorium stores init {store.name}",
        )


def note_mounted(settings: Settings, store: BackupStore) -> None:
    """Note where the folder of a store is mounted; it has a copy now."""
    if store.folder is None:
        return
    with contextlib.suppress(OSError):  # the copy is made, whatever can be noted of it
        note = _note(settings, store.name)
        note.parent.mkdir(mode=0o700, exist_ok=True)
        atomic.write(note, os.fsencode(store.folder) + b"\0" + os.fsencode(mount_of(store.folder)))


def forget_mounted(settings: Settings, store: str) -> None:
    _note(settings, store).unlink(missing_ok=True)


def _note(settings: Settings, store: str) -> Path:
    return settings.workspace_folder / "mounts" / store


def _has_something(folder: Path) -> bool:
    """Hidden names are not a store's: the workspace may be there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return any(not name.startswith(".") for name in os.listdir(folder))  # noqa: PTH208
    return False
