"""The contents of a generation on their way: exactly the members of our walk, tree by tree.

What is unchanged (size, time, mode, owner) is linked to an earlier generation. rsync sees no change behind an equal
size and time; the record of that generation does, by the hash: such files are sent in any case. Symlinks come last, so
that nothing is written through one of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.members.selection import decoded, encoded
from scriptorium.progress import Advance
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import Line, Place
from scriptorium.stores.trees.rsync.generations import CONTENTS
from scriptorium.stores.trees.rsync.listing import OPTIONS, written_files
from scriptorium.stores.trees.rsync.program import Incomplete, Rsync
from scriptorium.stores.trees.rsync.site import Keeps, Site

log = logging.getLogger(__name__)

_KEPT = ("-tHS", "--numeric-ids")
_YOUNG = 600.0  # seconds
_MOST_BASES = 20  # rsync takes no more


@dataclass(frozen=True, slots=True)
class Earlier:
    """The members of an earlier generation; of files two numbers: for what rsync compares, and with the hash."""

    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Iterator[Line]) -> Earlier:
        return cls({line.entry.path: _numbers(line) for line in lines if line.entry.kind == "file"})

    def has(self, line: Line) -> bool:
        """Whether a file is there as it is now, contents and attributes."""
        return self.files.get(line.entry.path) == _numbers(line)

    def deceives(self, line: Line) -> bool:
        """Whether rsync would take a file for unchanged that has other contents."""
        known, now = self.files.get(line.entry.path), _numbers(line)
        return known is not None and known[0] == now[0] and known[1] != now[1]


def _numbers(line: Line) -> tuple[int, int]:
    entry = line.entry
    seen = (entry.size, entry.mtime_ns // 10**9)  # rsync compares whole seconds
    return hash(seen), hash((seen, entry.mtime_ns, entry.mode, line.uid, line.gid, entry.sha256))


@dataclass(slots=True)
class Sent:
    """What was written: paths in the backup. ``incomplete``: something was not."""

    paths: set[str] = field(default_factory=set)
    incomplete: bool = False


@dataclass(slots=True)
class _Names:
    """The members of a tree, by the way in which they are sent. ``deceiving``: rsync would see no change of them."""

    files: list[bytes] = field(default_factory=list)
    deceiving: list[bytes] = field(default_factory=list)
    symlinks: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Transfer:
    """``folder``: of the generation that is made; ``bases``: the names of those that may be linked to."""

    site: Site
    program: Rsync
    package: TreePackage
    folder: str
    bases: Sequence[str]
    keeps: Keeps
    checksum: bool = False

    @property
    def work(self) -> Path:
        """A folder of the run, for this transfer alone: the same package may be on its way into other stores."""
        folder = self.package.folder / f"rsync{self.folder.rpartition('/')[2]}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def run(self, earlier: Earlier, advance: Advance) -> Sent:
        sent = Sent()
        advance = self._working(advance)
        for place, names in zip(self.package.places, self._names(earlier), strict=True):
            self._send(place, names.files, sent, advance, *(["--checksum"] if self.checksum else []))
            self._send(place, names.deceiving, sent, advance, "--ignore-times")
            self._send(place, names.symlinks if self.keeps.symlinks else (), sent, advance, "--links")
        return sent

    def _working(self, advance: Advance) -> Advance:
        """The same; besides, the folder stays young while bytes move: a first backup may take days."""
        last = time.monotonic()

        def moved(count: int) -> None:
            nonlocal last
            advance(count)
            if time.monotonic() - last > _YOUNG:
                last = time.monotonic()
                with contextlib.suppress(ScriptoriumError):
                    self.site.touch(self.folder)

        return moved

    def again(self, paths: Collection[str], advance: Advance) -> None:
        """Send these files anew, whatever is there, and link to nothing."""
        alone = dataclasses.replace(self, bases=())
        trees = [(line.tree, line.entry.path) for line in self.package.lines() if line.entry.path in paths]
        for number, place in enumerate(self.package.places):
            names = [encoded(relative(place, path)) for tree, path in trees if tree == number]
            alone._send(place, names, Sent(), advance, "--ignore-times")

    def _names(self, earlier: Earlier) -> list[_Names]:
        found = [_Names() for _ in self.package.places]
        deceiving = set[str]()
        for line in self.package.lines():
            entry = line.entry
            if line.tree is None:
                continue
            place, names = self.package.places[line.tree], found[line.tree]
            name = encoded(relative(place, entry.path))
            if not name and not place.single:
                continue  # the folder of the tree itself: rsync would take everything in it
            if entry.kind == "symlink":
                names.symlinks.append(name)
            elif not self.checksum and (earlier.deceives(line) or entry.target in deceiving):
                deceiving.add(entry.path)
                names.deceiving.append(name)
            else:
                names.files.append(name)
        return found

    def _send(self, place: Place, names: Sequence[bytes], sent: Sent, advance: Advance, *words: str) -> None:
        if not names:
            return
        within = f"{CONTENTS}/{place.at}".rstrip("/")
        target = f"{self.folder}/{within}"
        chosen = [*_KEPT, *(("-pgo",) if self.keeps.modes else ()), *OPTIONS, "--partial", *words]
        above = os.path.dirname(within) if place.single else within  # noqa: PTH120 -- no path of this machine
        library = self.folder.partition("/")[0]
        top = self.site.absolute(library) or "/".join([".."] * (above.count("/") + 2))  # absolute is a third faster
        chosen += [f"--link-dest={top}/{base}/{above}" for base in self.bases[:_MOST_BASES]]
        if place.single:
            self._follow(place, [*chosen, "--", place.root, self.site.address(target)], sent, advance)
            return
        listed = self.work / "files"
        listed.write_bytes(b"".join(b"./" + name + b"\0" for name in names))
        chosen += ["--from0", f"--files-from={listed}"]
        self._follow(
            place, [*chosen, "--", f"{place.root.rstrip('/')}/", f"{self.site.address(target)}/"], sent, advance
        )

    def _follow(self, place: Place, words: Sequence[str], sent: Sent, advance: Advance) -> None:
        arguments = [os.fsdecode(encoded(word)) for word in words]
        try:
            with self.program.sending(*arguments) as output:
                for name in written_files(output, advance):
                    sent.paths.add(place.at if place.single else "/".join(filter(None, (place.at, decoded(name)))))
        except Incomplete as error:
            log.warning("%s: %s", error, error.hint)
            sent.incomplete = True


def folders_of(package: TreePackage) -> list[str]:
    """Those in a generation that the trees are put into."""
    tops = {_parent(place) for place in package.places} or {""}
    return [f"{CONTENTS}/{top}".rstrip("/") for top in sorted(tops)]


def relative(place: Place, path: str) -> str:
    """The path of a member in its tree."""
    return "" if place.single else (path[len(place.at) :].lstrip("/") if place.at else path)


def _parent(place: Place) -> str:
    return os.path.dirname(place.at) if place.single else place.at  # noqa: PTH120 -- no path of this machine
