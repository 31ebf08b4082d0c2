"""Repositories of borg for tests: a store on a folder, a cache of its own, damage in the largest segment."""

from __future__ import annotations

import os
from pathlib import Path

from scriptorium.stores import BorgStore

PASSWORD = "tide and time"


def borg_store(folder: Path, **more: object) -> BorgStore:
    """A store on an empty repository in ``folder``."""
    store = new_borg_store(folder, **more)
    store.make()
    return store


def new_borg_store(folder: Path, **more: object) -> BorgStore:
    """A store that has no repository yet."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "vault.key"
    key.write_text(PASSWORD + "\n")
    settings = {"repository": str(folder / "vault"), "password_file": key, "base": folder / "base", "lock_wait": 2}
    return BorgStore.model_validate({**settings, **more})


def damage_segment(repository: Path) -> None:
    """Change a byte in the middle of the largest segment: the contents of the largest file."""
    segment = max((repository / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)


def borg_environment(store: BorgStore) -> dict[str, str]:
    """The environment of a person who uses borg on the repository of a store."""
    mine = {"BORG_REPO": store.repository, "BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": str(store.base)}
    return {**os.environ, **mine, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
