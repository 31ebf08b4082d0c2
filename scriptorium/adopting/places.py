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

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium.adopting.inventory import METADATA
from scriptorium.archive import compiled
from scriptorium.errors import UnsafeArchive
from scriptorium.manifest import readable
from scriptorium.sources import FilesSource

_FOLDERS = {
    "data": "data",
    "kuzu": "data/kuzu",
    "kuzu_db": "data/kuzu",
    "static/covers": "data/covers",
    "static/uploads": "data/uploads",
    "covers": "data/covers",
    "uploads": "data/uploads",
}
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


def sort(raw: Path, home: Path, sources: Sequence[FilesSource]) -> Sorted:
    """Move what was unpacked into ``raw`` to its places of today in the new folder ``home``."""
    home.mkdir(mode=0o700)
    result = Sorted(home)
    folders: list[tuple[Path, Path]] = []
    for here, names, files in os.walk(raw):
        linked = [name for name in names if Path(here, name).is_symlink()]
        for name in sorted(set(names) - set(linked)):
            path = Path(here, name)
            place = todays_path(path.relative_to(raw).as_posix())
            owner = _owner(place, sources, folder=True) if place else None
            if place and owner:
                (home / place).mkdir(parents=True, exist_ok=True)
                folders.append((path, home / place))
        for name in sorted([*files, *linked]):
            _move(Path(here, name), raw, result, sources)
    for old, new in reversed(folders):
        shutil.copystat(old, new)
    _require_inside(home)
    return result


def _move(path: Path, raw: Path, result: Sorted, sources: Sequence[FilesSource]) -> None:
    old = path.relative_to(raw).as_posix()
    if path.name in _DROPPED:
        return
    place = todays_path(old)
    owner = _owner(place, sources, folder=False) if place else None
    if place is None or owner is None or os.path.lexists(result.home / place):
        result.left_out.append(old)
        return
    (result.home / place).parent.mkdir(parents=True, exist_ok=True)
    path.rename(result.home / place)
    result.parts.add(owner.name)


def _owner(place: str, sources: Sequence[FilesSource], *, folder: bool) -> FilesSource | None:
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


def _require_inside(home: Path) -> None:
    """A chain of symlinks may lead out although none of them does by itself."""
    top = os.path.realpath(home)
    for here, names, files in os.walk(home):
        for name in [*names, *files]:
            path = Path(here, name)
            if path.is_symlink() and not f"{os.path.realpath(path)}/".startswith(f"{top}/"):
                raise UnsafeArchive(
                    "a symlink leads out of the archive", on=readable(path.relative_to(home).as_posix())
                )
