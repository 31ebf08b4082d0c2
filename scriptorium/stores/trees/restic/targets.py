"""The targets that restic reads, so that it saves what our walk saved: whole folders, without what the walk left out.

Where the walk left out more than it took (``include``), the files are named one by one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium.members.selection import decoded, encoded
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import Place

_FEW = 1_000
_SPECIAL = re.compile(rb"[\\*?\[]")


@dataclass(frozen=True, slots=True)
class Targets:
    """Absolute paths on the disk, in bytes. Those below ``within`` are given, and kept, relative to it."""

    paths: tuple[bytes, ...]
    excluded: tuple[bytes, ...]

    def listed(self, within: Path) -> bytes:
        """For ``--files-from-raw``."""
        top = encoded(f"{within}/")
        return b"".join(path.removeprefix(top) + b"\0" for path in self.paths)

    def patterns(self) -> bytes:
        """For ``--exclude-file``: one pattern a line."""
        return b"".join(_pattern(path) + b"\n" for path in self.excluded if not _odd(path))

    def odd_patterns(self) -> list[str]:
        """Those that no line can hold, each for ``--exclude``."""
        return [os.fsdecode(escaped(path)) for path in self.excluded if _odd(path)]


def _odd(path: bytes) -> bool:
    """Whether a line break is in it, or what restic cuts off at the ends of a line."""
    text = decoded(path)
    return b"\n" in path or b"\r" in path or text != text.strip()


def escaped(path: bytes) -> bytes:
    """As a pattern that means just this path."""
    return _SPECIAL.sub(lambda found: b"\\" + found[0], path)


def _pattern(path: bytes) -> bytes:
    return escaped(path).replace(b"$", b"$$")  # variables are expanded in such a file


@dataclass(slots=True)
class _Tree:
    """One tree while its members pass by: its files, and what lies beside them and is not saved."""

    files: list[bytes] = field(default_factory=list)
    left_out: list[bytes] = field(default_factory=list)
    open: list[tuple[bytes, set[bytes]]] = field(default_factory=list)  # the folders that we are in, the saved names

    def add(self, path: bytes, kind: str) -> None:
        while self.open and not path.startswith(self.open[-1][0] + b"/"):
            self._leave()
        if self.open:
            self.open[-1][1].add(path[len(self.open[-1][0]) + 1 :])
        if kind == "folder":
            self.open.append((path, set()))
        else:
            self.files.append(path)

    def _leave(self) -> None:
        folder, saved = self.open.pop()
        try:
            found = os.listdir(folder)  # noqa: PTH208 -- bytes
        except OSError:
            return
        self.left_out += [folder + b"/" + name for name in found if name not in saved]

    def end(self) -> None:
        while self.open:
            self._leave()

    @property
    def by_name(self) -> bool:
        return len(self.left_out) > _FEW and len(self.left_out) > len(self.files)


def targets(package: TreePackage) -> Targets:
    """What to read for this package. Reads each folder once, and no file."""
    paths: list[bytes] = []
    excluded: list[bytes] = []
    for place, tree in _trees(package):
        if tree.by_name:
            paths += tree.files
        else:
            paths.append(encoded(place.root))
            excluded += tree.left_out
    outer = _outermost(paths)
    return Targets(tuple(outer), tuple(_not_saved(package, excluded)))


def _trees(package: TreePackage) -> Iterator[tuple[Place, _Tree]]:
    current: int | None = None
    tree = _Tree()
    for line in package.lines():
        if line.tree is None:
            continue
        place = package.places[line.tree]
        if line.tree != current:
            if current is not None:
                tree.end()
                yield package.places[current], tree
            current, tree = line.tree, _started(place)
        tree.add(encoded(place.on_disk(line.entry.path)), line.entry.kind)
    if current is not None:
        tree.end()
        yield package.places[current], tree


def _started(place: Place) -> _Tree:
    """A tree at the top of a backup has no member for its own folder."""
    return _Tree(open=[(encoded(place.root).rstrip(b"/"), set())] if not place.at and not place.single else [])


def _outermost(paths: list[bytes]) -> list[bytes]:
    """Without what lies below another one."""
    chosen: list[bytes] = []
    for path in sorted(set(paths), key=lambda one: one.split(b"/")):
        if not chosen or not (path + b"/").startswith(chosen[-1].rstrip(b"/") + b"/"):
            chosen.append(path)
    return chosen


def _not_saved(package: TreePackage, excluded: list[bytes]) -> list[bytes]:
    """Without what another tree brings, or something below it: then restic saves more than it must."""
    left = dict.fromkeys(excluded)
    if not left:
        return []
    for line in package.lines():
        if line.tree is not None:
            path = encoded(package.places[line.tree].on_disk(line.entry.path))
            while path and path != b"/":
                left.pop(path, None)
                path = path.rpartition(b"/")[0]
    return list(left)
