"""A tar that may be hostile, compressed or not: it is read once to be checked, and again to be unpacked."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path

from scriptorium.archive import unpack as unpack_ours
from scriptorium.archive.reader import Reader
from scriptorium.errors import DamageFound, UnsafeArchive
from scriptorium.fs.walking import walk
from scriptorium.manifest import readable
from scriptorium.members import Member
from scriptorium.operations.adopt.inventory import (
    LARGEST_METADATA,
    METADATA,
    Inventory,
    checked_name,
    leads_out,
    left_out,
    require_tree,
)

_KINDS = ("file", "folder", "symlink", "hardlink")
_SPECIAL = 0o7000  # set-uid, set-gid, sticky: a library needs none of them


def is_ours(file: Path) -> bool:
    """Whether it is an archive that this program made: our metadata is its first member."""
    with contextlib.suppress(DamageFound, ValueError), file.open("rb") as stream, Reader(stream) as reader:
        first = next(iter(reader), None)
        if first is not None and first.entry.path == METADATA and first.entry.size <= LARGEST_METADATA:
            found = json.loads(first.contents())
            return isinstance(found, dict) and "scriptorium_version" in found and "checksum" in found
    return False


def read_inventory(file: Path) -> Inventory:
    """The content of the tar, read from its first header to its end. ``UnsafeArchive``, ``DamageFound``."""
    size = 0
    metadata: bytes | None = None
    kinds: dict[str, str] = {}
    links: dict[str, str] = {}
    with file.open("rb") as stream, Reader(stream, foreign=True) as reader:
        for member in reader:
            entry, path = member.entry, _judged(member)
            if kinds.setdefault(path, entry.kind) != entry.kind:
                raise UnsafeArchive("two members of different kinds have the same name", on=readable(path))
            if entry.kind == "symlink":
                links[path] = entry.target or ""
            if path == METADATA and entry.kind == "file":
                if entry.size > LARGEST_METADATA:
                    raise DamageFound("the metadata of the archive is impossibly large", on=file.name)
                metadata = member.contents()
            size += entry.size
    files = [path for path, kind in kinds.items() if kind != "folder"]
    require_tree(files, (path for path, kind in kinds.items() if kind == "folder"))
    return Inventory(len(files), size, metadata, {path: to for path, to in links.items() if leads_out(path, to)})


def _judged(member: Member) -> str:
    entry = member.entry
    path = checked_name(entry.path)
    if entry.kind not in _KINDS:
        raise UnsafeArchive(f"a member is a {entry.kind}, which no backup contains", on=readable(path))
    if entry.kind == "hardlink":
        checked_name(entry.target or "")
    return path


def unpack(file: Path, folder: Path, inventory: Inventory) -> tuple[str, ...]:
    """Write everything that the inventory does not leave out into ``folder``; returns warnings."""

    def receive(path: str) -> Path | None:
        return None if path in inventory.left_out else folder / path

    with file.open("rb") as stream:
        done = unpack_ours(stream, receive, roots=[folder], foreign=True)
    return (*left_out(inventory), *map(str, done.unset), *_plain_modes(folder))


def _plain_modes(folder: Path) -> list[str]:
    """Remove the mode bits that let a program run with its owner's rights."""
    notes = []
    for found in walk(folder):
        for name in found.others:
            mode = os.stat(name, dir_fd=found.descriptor, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode) and mode & _SPECIAL:
                os.chmod(name, mode & 0o777, dir_fd=found.descriptor)
                notes.append(f"{readable(found.inside(name))}: its set-uid or set-gid bit was removed")
    return notes
