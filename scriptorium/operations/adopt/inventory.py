"""The content of a foreign archive, read and checked before anything of it is written."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from scriptorium.errors import UnsafeArchive
from scriptorium.manifest import readable

METADATA = "backup_metadata.json"
LARGEST_METADATA = 1 << 20
_LONGEST_NAME = 255  # bytes of one name: what filesystems take
_DEEPEST = 5_000


@dataclass(frozen=True, slots=True)
class Inventory:
    """``size``: bytes of all its files on disk. ``metadata``: the archive's own metadata, if it has any.

    ``left_out``: links that lead out of the archive, with their targets; ``warnings``: other warnings.
    """

    files: int
    size: int
    metadata: bytes | None
    left_out: dict[str, str]
    warnings: tuple[str, ...] = ()


def checked_name(name: str) -> str:
    """The name of a member, without a final ``/``. ``UnsafeArchive`` if it leads out of the archive."""
    path = name.rstrip("/")
    if len(path.split("/")) > _DEEPEST or max(map(len, map(os.fsencode, path.split("/")))) > _LONGEST_NAME:
        raise UnsafeArchive(
            f"a name in the archive is longer than {_LONGEST_NAME} bytes, or more than {_DEEPEST:,} folders deep",
            on=readable(path[:_LONGEST_NAME]),
        )
    if name.startswith("/") or not path or "\0" in name or any(step in ("", ".", "..") for step in path.split("/")):
        raise UnsafeArchive("a member of the archive would be written outside its folder", on=readable(name))
    return path


def leads_out(path: str, target: str) -> bool:
    """Whether the symlink at ``path`` points out of the archive, judged by its target alone."""
    return target.startswith("/") or posixpath.normpath(posixpath.join(posixpath.dirname(path), target))[:2] == ".."


def left_out(inventory: Inventory) -> tuple[str, ...]:
    """A line for each link that is not unpacked."""
    return tuple(
        f"{readable(path)}: a link out of the archive (to {readable(to)}), left out"
        for path, to in sorted(inventory.left_out.items())
    )


def require_tree(files: Iterable[str], folders: Iterable[str]) -> None:
    """``UnsafeArchive`` if a file or a link has the name of a folder, also of one that only other members imply."""
    names, inside = set(files), set[str]()
    known = set(folders)
    for path in names | known:
        cut = path.rfind("/")
        while cut != -1 and path[:cut] not in inside:  # then the folders above it are known as well
            inside.add(path[:cut])
            cut = path.rfind("/", 0, cut)
    if both := names & (inside | known):
        raise UnsafeArchive("a member of the archive is below something that is no folder", on=readable(min(both)))
