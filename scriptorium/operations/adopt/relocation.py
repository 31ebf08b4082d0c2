"""The present paths of files in an old archive.

::

    data/**                          as it is
    kuzu/**, kuzu_db/**              data/kuzu/**
    static/covers/**, covers/**      data/covers/**          (uploads likewise)
    config/.env                      .env
    config/*.json                    data/*.json
    files at the top                 as they are, if they belong to the library's configuration
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium.errors import UnsafeArchive
from scriptorium.fs.walking import Folder, walk
from scriptorium.manifest import readable
from scriptorium.members import compiled
from scriptorium.members.placing import Placing
from scriptorium.operations.adopt.inventory import METADATA
from scriptorium.sources.optional import FileTree

_FOLDERS = {
    "data": "data",
    "kuzu": "data/kuzu",
    "kuzu_db": "data/kuzu",
    "static/covers": "data/covers",
    "static/uploads": "data/uploads",
    "covers": "data/covers",
    "uploads": "data/uploads",
}
_LONGEST = 3000  # bytes of a path that every system call accepts
_NEW_FOLDER = 0o755  # the mode of a folder that the archive does not list
_NAMED = 5  # how many of the files that are left out are named
_DROPPED = frozenset({METADATA, ".container_marker", ".clean_shutdown"})  # state of an application that was running


def todays_path(path: str) -> str | None:
    """The present path of ``path`` in an old archive; ``None`` if there is none."""
    first, _, rest = path.partition("/")
    if first == "config" and "/" not in rest:
        if rest == ".env":
            return ".env"
        return f"data/{rest}" if rest.endswith(".json") else None
    for old, new in _FOLDERS.items():
        if path == old or path.startswith(f"{old}/"):
            return new + path[len(old) :]
    return path if not rest else None


@dataclass(slots=True)
class Sorted:
    """``home``: the folder with the layout of our archives. ``parts``: the sources that have files in it (a folder
    alone is nothing to restore); ``left_out``: old paths."""

    home: Path
    parts: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)

    def warnings(self) -> tuple[str, ...]:
        if not self.left_out:
            return ()
        named = ", ".join(readable(path) for path in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED:,} more" if len(self.left_out) > _NAMED else ""
        return (f"left out, because no part of this library contains it today: {named}{more}",)


def sort(raw: Path, home: Path, sources: Sequence[FileTree]) -> Sorted:
    """Move the files that were unpacked into ``raw`` to their present paths in the new folder ``home``."""
    home.mkdir(mode=0o700)
    result = Sorted(home)
    links: list[str] = []
    with_attributes: set[str] = set()
    with contextlib.closing(Placing([home])) as placing:

        def copy_attributes(old: str, descriptor: int) -> None:
            place = todays_path(old) if old else None
            if place and _owner(place, sources, folder=True):
                made = placing.folder(home / place)
                shutil.copystat(f"/proc/self/fd/{descriptor}", f"/proc/self/fd/{made}")
                os.close(made)
                with_attributes.add(place)

        for folder in walk(raw, leaving=copy_attributes):
            for name in folder.others:
                links += _moved(folder, name, placing, result, sources)
    for made in walk(home):
        if made.path and made.path not in with_attributes:
            os.fchmod(made.descriptor, _NEW_FOLDER)
    _require_inside(home, links)
    return result


def _moved(folder: Folder, name: str, placing: Placing, result: Sorted, sources: Sequence[FileTree]) -> Iterator[str]:
    """Move one file to its present path; yields that path if it is a link."""
    old = folder.inside(name)
    if name in _DROPPED:
        return
    place = todays_path(old)
    owner = _owner(place, sources, folder=False) if place else None
    if place is None or owner is None:
        result.left_out.append(old)
        return
    parent, new = placing.parent(result.home / place)
    if _is_there(new, parent):
        result.left_out.append(old)
        return
    os.rename(name, new, src_dir_fd=folder.descriptor, dst_dir_fd=parent)
    result.parts.add(owner.name)
    if stat.S_ISLNK(os.stat(new, dir_fd=parent, follow_symlinks=False).st_mode):
        yield place


def _is_there(name: bytes, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _owner(place: str, sources: Sequence[FileTree], *, folder: bool) -> FileTree | None:
    """The source that a path belongs to today, if that source saves it."""
    holding = [source for source in sources if not source.place or f"{place}/".startswith(f"{source.place}/")]
    if not holding:
        return None
    source = max(holding, key=lambda one: len(one.place))
    inside = place[len(source.place) :].lstrip("/")
    if not inside:
        return source
    if compiled(*source.exclude).hold(inside, folder):
        return None
    chosen = not source.include or compiled(*source.include).hold(inside, folder)
    return source if chosen else None


def _require_inside(home: Path, links: Sequence[str]) -> None:
    """``UnsafeArchive`` if a link leads out: several links together may, although none of them does alone."""
    top = os.path.realpath(home)
    for place in links:
        path = os.fsencode(home / place)
        if len(path) > _LONGEST or not f"{os.path.realpath(home / place)}/".startswith(f"{top}/"):
            raise UnsafeArchive("a symlink leads out of the archive", on=readable(place))
