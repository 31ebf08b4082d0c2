"""Trees of files as a test writes them down and sees them on disk, and a restore over them."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scriptorium.model import Part
from scriptorium.sources import FilesSource
from scriptorium.sources.files.restore import FilesIncoming

RESTORE = "0123456789ab"
Node = dict[str, "Node"] | bytes | str  # folder, file, symlink
Tree = dict[str, Node]
ODD = os.fsdecode(b"\xff\n")


def part(place: str = "data", files: int = 3) -> Part:
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    return Part("data", "files", place, 0, files, instant, instant, "")


def build(folder: Path, tree: Tree) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, node in tree.items():
        path = folder / name
        if isinstance(node, dict):
            build(path, node)
        elif isinstance(node, bytes):
            path.write_bytes(node)
        else:
            path.symlink_to(node)


def seen(folder: Path) -> Node:
    """The tree as it is on disk, without a restore's own folders."""
    if folder.is_symlink():
        return os.readlink(folder)  # noqa: PTH115  exactly as it was written
    if not folder.is_dir():
        return folder.read_bytes()
    return {entry.name: seen(entry) for entry in folder.iterdir() if not entry.name.startswith(".scriptorium-")}


def state_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every byte, mode, owner and time of files, and modes and owners of folders."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        common = (kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        if stat.S_ISDIR(info.st_mode):
            found[str(path.relative_to(folder))] = common
        elif stat.S_ISLNK(info.st_mode):
            found[str(path.relative_to(folder))] = (*common, os.readlink(path), info.st_mtime_ns)  # noqa: PTH115
        else:
            found[str(path.relative_to(folder))] = (*common, path.read_bytes(), info.st_mtime_ns, info.st_ino)
    return found


def bring(incoming: FilesIncoming, tree: Tree, place: str = "data") -> None:
    """What unpacking does: write every member that is wanted."""
    incoming.prepare()
    root = incoming.receive(place)
    assert root is not None
    build(root, tree)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "living"


def source_of(path: Path, **more: object) -> FilesSource:
    return FilesSource.model_validate({"name": "data", "path": path, **more})


def incoming_of(source: FilesSource, **more: object) -> FilesIncoming:
    found = source.incoming(part(source.place), RESTORE, **more)  # type: ignore[arg-type]
    assert isinstance(found, FilesIncoming)
    return found


LIVING: Tree = {
    "kept.log": b"excluded",
    "old": b"goes",
    "same": b"previous",
    "folder": {"x": b"previous x", "deep": {"kept.log": b"excluded, deep", "y": b"previous y"}},
    "gone": {"z": b"goes with its folder"},
    "link": "same",
    ODD: b"previous odd",
    "now a file": {"was": b"a folder"},
    "now a folder": b"was a file",
}
ARCHIVE: Tree = {
    "same": b"restored",
    "folder": {"x": b"restored x", "deep": {"y": b"restored y", "new": b"n"}, "empty": {}},
    "link": "elsewhere",
    ODD: b"restored odd",
    "now a file": b"a file",
    "now a folder": {"holds": b"a file"},
    "new": {"w": b"w"},
}
RESTORED: Tree = {
    **ARCHIVE,
    "kept.log": b"excluded",
    "folder": {
        "x": b"restored x",
        "deep": {"kept.log": b"excluded, deep", "y": b"restored y", "new": b"n"},
        "empty": {},
    },
}
