"""What a foreign archive holds, read and judged before anything of it is written."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scriptorium.errors import UnsafeArchive
from scriptorium.manifest import readable

METADATA = "backup_metadata.json"
LARGEST_METADATA = 1 << 20


@dataclass(frozen=True, slots=True)
class Inventory:
    """``size``: bytes of all its files, as they will be on disk. ``metadata``: its record of itself, where it has one.

    ``left_out``: links that lead out of the archive, with their targets; ``warnings``: what else is to be said.
    """

    files: int
    size: int
    metadata: bytes | None
    left_out: dict[str, str]
    warnings: tuple[str, ...] = ()


def checked_name(name: str) -> str:
    """The name of a member, without a closing ``/``. ``UnsafeArchive`` when it leads out of the archive."""
    path = name.rstrip("/")
    if name.startswith("/") or not path or "\0" in name or any(step in ("", ".", "..") for step in path.split("/")):
        raise UnsafeArchive("a member of the archive would be written outside its folder", on=readable(name))
    return path


def leads_out(path: str, target: str) -> bool:
    """Whether the symlink at ``path`` points out of the archive, as far as its text says."""
    return target.startswith("/") or posixpath.normpath(posixpath.join(posixpath.dirname(path), target))[:2] == ".."


def require_tree(files: Iterable[str], folders: Iterable[str]) -> None:
    """``UnsafeArchive`` when a file (or a link) has the name of a folder, or of one that another member lies in."""
    names = set(files)
    inside = {above for path in names.union(folders) for above in _above(path)}
    if both := names & inside.union(folders):
        raise UnsafeArchive("a member of the archive lies in something that is no folder", on=readable(min(both)))


def _above(path: str) -> Iterator[str]:
    cut = path.find("/")
    while cut != -1:
        yield path[:cut]
        cut = path.find("/", cut + 1)
