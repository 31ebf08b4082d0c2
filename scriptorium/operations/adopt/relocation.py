"""Where what an old archive holds lies today.

::

    data/**                          as it is
    kuzu/**, kuzu_db/**              data/kuzu/**
    static/covers/**, covers/**      data/covers/**          (uploads likewise)
    config/.env                      .env
    config/*.json                    data/*.json
    files at the top                 as they are, where the library's configuration has them
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
_LONGEST = 3000  # bytes of a path that can surely be asked about
_NEW_FOLDER = 0o755  # that the archive says nothing of
_NAMED = 5  # of what is left out
_DROPPED = frozenset({METADATA, ".container_marker", ".clean_shutdown"})  # marks of a running application say nothing


def todays_path(path: str) -> str | None:
    """The path in an archive of today of what an old one calls ``path``; ``None`` when it has no place."""
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
    """``home``: laid out as archives are. ``parts``: the sources that files came for (a folder alone is nothing to
    restore); ``left_out``: old paths."""

    home: Path
    parts: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)

    def warnings(self) -> tuple[str, ...]:
        if not self.left_out:
            return ()
        named = ", ".join(readable(path) for path in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED:,} more" if len(self.left_out) > _NAMED else ""
        return (f"left out, for no part of this library holds it today: {named}{more}",)


def sort(raw: Path, home: Path, sources: Sequence[FileTree]) -> Sorted:
    """Move what was unpacked into ``raw`` to its places of today in the new folder ``home``, however deep it lies."""
    home.mkdir(mode=0o700)
    result = Sorted(home)
    links: list[str] = []
    dressed: set[str] = set()
    with contextlib.closing(Placing([home])) as placing:

        def dress(old: str, descriptor: int) -> None:
            place = todays_path(old) if old else None
            if place and _owner(place, sources, folder=True):
                made = placing.folder(home / place)
                shutil.copystat(f"/proc/self/fd/{descriptor}", f"/proc/self/fd/{made}")
                os.close(made)
                dressed.add(place)

        for folder in walk(raw, leaving=dress):
            for name in folder.others:
                links += _moved(folder, name, placing, result, sources)
    for made in walk(home):
        if made.path and made.path not in dressed:
            os.fchmod(made.descriptor, _NEW_FOLDER)
    _require_inside(home, links)
    return result


def _moved(folder: Folder, name: str, placing: Placing, result: Sorted, sources: Sequence[FileTree]) -> Iterator[str]:
    """Move one to its place; says where it is when it is a link."""
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
    """The source that a path belongs to today, if that would save it."""
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
    """A chain of symlinks may lead out although none of them does by itself."""
    top = os.path.realpath(home)
    for place in links:
        path = os.fsencode(home / place)
        if len(path) > _LONGEST or not f"{os.path.realpath(home / place)}/".startswith(f"{top}/"):
            raise UnsafeArchive("a symlink leads out of the archive", on=readable(place))
