"""Backups of one folder in a store of rsync, and what lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prepared_backup import LABEL, prepared

from scriptorium.members import write_members
from scriptorium.operations.copies import check, put
from scriptorium.stores import RsyncStore
from scriptorium.words import Compression


def stored(
    store: RsyncStore,
    data: Path,
    number: int = 1,
    *,
    label: str = "",
    meanwhile: Callable[[], object] = lambda: None,
) -> str:
    one = prepared(data, store, label=label or (LABEL if number == 1 else f"{LABEL}-{number}"))
    meanwhile()
    return put(store, Compression.GZIP, one, check(one)).key


def contents(store: RsyncStore, key: str) -> Path:
    return Path(store.target.partition(":")[2] or str(store.path)) / key / "contents"


def restored(store: RsyncStore, key: str, folder: Path) -> Path:
    with store.members(key) as members:
        write_members(members, lambda path: folder / path, roots=[folder], expected=store.manifest(key).files)
    return folder
