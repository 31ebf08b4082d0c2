"""Which files of a tree are saved: a walk that follows no symlink and says by name what it leaves out.

Always left out: the ``never`` paths of a tree (our own stores, by path and by inode, so that a bind mount of the same
folder is caught), names that begin with ``.scriptorium-``, and what another tree of the same archive brings. Sockets,
pipes and devices hold no data and are skipped with a warning; so is what vanishes under the walk, since it was there to
nobody when the backup was taken. What is there and cannot be read is *lost*: the backup is degraded.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from scriptorium.archive.patterns import Patterns, compiled
from scriptorium.archive.remarks import Remark
from scriptorium.errors import NotFound, SourceUnavailable, UsageError
from scriptorium.model import Survey, Tree

Warn = Callable[[Remark], None]

_GONE = (errno.ENOENT, errno.ENOTDIR)

_OURS = b".scriptorium-"
_ODD = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Found:
    """Something to save: its path in the archive, where it is on disk, and what it was when it was met.

    ``kind`` is file, folder or symlink (with ``target``).
    """

    path: str
    source: bytes
    kind: str
    stat: os.stat_result
    target: str | None = None


@dataclass(slots=True)
class _Level:
    """A folder being walked: what is left of it, and itself while nothing of it has been taken yet."""

    entries: Iterator[os.DirEntry[bytes]]
    relative: str
    taken: bool
    pending: Found | None


@dataclass(slots=True)
class _Walk:
    tree: Tree
    warn: Warn
    claimed: frozenset[str]
    root: bytes = b""
    include: Patterns = field(init=False)
    exclude: Patterns = field(init=False)
    never_paths: set[bytes] = field(default_factory=set)
    never_inodes: set[tuple[int, int]] = field(default_factory=set)
    above: set[str] = field(default_factory=set)  # the folders on the way to what other trees bring

    def __post_init__(self) -> None:
        self.include, self.exclude = compiled(*self.tree.include), compiled(*self.tree.exclude)
        self.above = {step for path in self.claimed for step in _folders_above(path)}
        self.root = os.path.realpath(encoded(self.tree.root))
        for path in self.tree.never:
            real = os.path.realpath(encoded(path))
            self.never_paths.add(real)
            try:
                facts = os.stat(real)  # noqa: PTH116 -- bytes, which Path cannot hold
            except OSError:
                continue
            self.never_inodes.add((facts.st_dev, facts.st_ino))

    def run(self) -> Iterator[Found]:
        try:
            facts = os.stat(self.root)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            if self.tree.optional:
                return
            raise NotFound("what is to be saved is not there", on=self.tree.root, hint="correct its path") from None
        except OSError as error:
            raise SourceUnavailable(f"cannot be read ({error.strerror})", on=self.tree.root) from None
        if self._forbidden(self.root, facts):
            self.warn(Remark(self.tree.root, "backups are written here, skipped"))
        elif stat.S_ISDIR(facts.st_mode):
            yield from self._folders(facts)
        elif not stat.S_ISREG(facts.st_mode):
            raise UsageError(
                f"what is to be saved is {odd_kind(facts.st_mode)}", on=self.tree.root, hint="correct its path"
            )
        else:
            at = self.tree.at or decoded(os.path.basename(encoded(self.tree.root)))  # noqa: PTH119
            found = self._found(at, self.root, facts)
            if found is not None and at not in self.claimed:
                yield found

    def _folders(self, facts: os.stat_result) -> Iterator[Found]:
        top = Found(self.tree.at, self.root, "folder", facts) if self.tree.at else None
        everything = not self.tree.include
        if everything and top is not None:
            yield top
        try:
            first = self._listing(self.root)
        except OSError as error:
            raise SourceUnavailable(f"cannot be read ({error.strerror})", on=self.tree.root) from None
        levels = [_Level(first, "", everything, None if everything else top)]
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop()
                continue
            relative = f"{level.relative}/{decoded(entry.name)}" if level.relative else decoded(entry.name)
            found = self._entry(entry, relative)
            if found is None:
                continue
            taken = level.taken or self._included(relative, found.kind == "folder")
            if taken:
                for above in levels:
                    if above.pending is not None:
                        yield above.pending
                        above.pending = None
                yield found
            if found.kind == "folder" and (taken or self._worth_walking(relative)):
                inside = self._inside(found)
                if inside is not None:
                    levels.append(_Level(inside, relative, taken, None if taken else found))

    def _inside(self, folder: Found) -> Iterator[os.DirEntry[bytes]] | None:
        try:
            return self._listing(folder.source)
        except OSError as error:
            self.warn(unread(folder.path, error))
            return None

    @staticmethod
    def _listing(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))

    def _entry(self, entry: os.DirEntry[bytes], relative: str) -> Found | None:
        path = f"{self.tree.at}/{relative}" if self.tree.at else relative
        if entry.name.startswith(_OURS) or path in self.claimed:
            return None
        try:
            facts = entry.stat(follow_symlinks=False)
        except OSError as error:
            self.warn(unread(path, error))
            return None
        if self._excluded(relative, stat.S_ISDIR(facts.st_mode)) or self._forbidden(entry.path, facts):
            return None
        if stat.S_ISLNK(facts.st_mode) and path in self.above:  # another tree needs a folder of this name
            return None
        return self._found(path, entry.path, facts)

    def _found(self, path: str, source: bytes, facts: os.stat_result) -> Found | None:
        if stat.S_ISREG(facts.st_mode):
            return Found(path, source, "file", facts)
        if stat.S_ISDIR(facts.st_mode):
            return Found(path, source, "folder", facts)
        if stat.S_ISLNK(facts.st_mode):
            try:
                return Found(path, source, "symlink", facts, decoded(os.readlink(source)))  # noqa: PTH115
            except OSError as error:
                self.warn(unread(path, error))
                return None
        self.warn(Remark(path, f"{odd_kind(facts.st_mode)}, skipped"))
        return None

    def _excluded(self, relative: str, is_dir: bool) -> bool:
        return self.exclude.match(relative, is_dir)

    def _included(self, relative: str, is_dir: bool) -> bool:
        return self.include.match(relative, is_dir)

    def _worth_walking(self, relative: str) -> bool:
        return self.include.may_match_below(relative)

    def _forbidden(self, source: bytes, facts: os.stat_result) -> bool:
        if stat.S_ISLNK(facts.st_mode):
            return False
        return source in self.never_paths or (facts.st_dev, facts.st_ino) in self.never_inodes


def select(tree: Tree, warn: Warn, claimed: frozenset[str] = frozenset()) -> Iterator[Found]:
    """What of the tree is saved, folders before their contents, names in byte order.

    The root itself may be a symlink; below it none is followed. A folder that matches ``exclude`` is not entered. With
    ``include``, a file is taken when it or a folder above it matches; the folders on the way come with it. ``claimed``:
    archive paths that other trees bring (see ``claims``). Memory: the names of the folders on the way down.
    Raises ``NotFound`` (no such root, not ``optional``), ``SourceUnavailable`` (the root cannot be read).
    """
    return _Walk(tree, warn, claimed).run()


def claims(trees: Sequence[Tree], of: Tree) -> frozenset[str]:
    """Archive paths below ``of`` that another tree brings: the raw files there are not saved a second time."""
    inside = f"{of.at}/" if of.at else ""
    return frozenset(
        tree.at for tree in trees if tree is not of and tree.at and tree.at != of.at and tree.at.startswith(inside)
    )


def _folders_above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def survey(trees: Sequence[Tree]) -> Survey:
    """Bytes and number of files that packing these trees would read, without reading them. Raises like ``select``."""
    total = count = 0
    for tree in trees:
        for found in select(tree, lambda _: None, claims(trees, tree)):
            if found.kind == "file":
                total += found.stat.st_size
            count += found.kind != "folder"
    return Survey(total, count)


def odd_kind(mode: int) -> str:
    """What something is that is neither file nor folder."""
    return _ODD.get(stat.S_IFMT(mode), "neither a file nor a folder")


def unread(path: str, error: OSError) -> Remark:
    """What is said of something that could not be read."""
    if error.errno in _GONE:
        return Remark(path, "vanished before it was read")
    if error.errno == errno.ELOOP:  # opened without following: a link is there now
        return Remark(path, "is no longer a file, skipped")
    return Remark(path, f"cannot be read ({error.strerror}), skipped", lost=True)


def encoded(path: str) -> bytes:
    """The bytes of a path, whatever the locale."""
    return path.encode("utf-8", "surrogateescape")


def decoded(path: bytes) -> str:
    """A path from its bytes, whatever the locale."""
    return path.decode("utf-8", "surrogateescape")
