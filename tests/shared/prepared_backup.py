"""A backup of one folder, ready to be put into stores."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scriptorium.manifest import new_id
from scriptorium.model import FileList, Manifest, Staged, Tree
from scriptorium.operations.copies import Prepared, prepare
from scriptorium.stores import BackupStore
from scriptorium.words import BackupType, Compression, Tier

TAKEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LABEL = "full_20260102_030405"
LATER = timedelta(hours=25)


def folder_of_everything(folder: Path) -> Path:
    """A file of noise, an empty one, a hard link, a symlink, a name that is not UTF-8."""
    (folder / "sub").mkdir(parents=True)
    (folder / "noise").write_bytes(os.urandom(50_000))
    (folder / "sub" / "empty").touch()
    (folder / "sub" / "again").hardlink_to(folder / "noise")
    (folder / "link").symlink_to("noise")
    (folder / os.fsdecode(b"\xff odd\n")).write_text("odd")
    return folder


def draft_of(created: datetime) -> Manifest:
    """The manifest of a backup of nothing yet."""
    return Manifest(
        id=new_id(),
        library="lib",
        preset=None,
        type=BackupType.FULL,
        tier=Tier.MANUAL,
        name="a backup",
        description="",
        created_at=created,
        finished_at=created,
        host="here",
        scriptorium_version="1",
        tools={},
        parts=(),
        files=FileList(0, "", ()),
        archive=None,
    )


def prepared(
    data: Path, *stores: BackupStore, label: str = LABEL, created: datetime = TAKEN, hashes: Path | None = None
) -> Prepared:
    folder = data.parent / f"work-{new_id()}"
    folder.mkdir()
    part = Staged("data", "files", "data", "read in place", TAKEN, TAKEN, (Tree(str(data), "data"),))
    packagings = dict.fromkeys(store.packaging(Compression.GZIP) for store in stores)
    return prepare(packagings, draft_of(created), [part], folder, label, hashes=hashes)
