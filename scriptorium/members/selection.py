"""Which files of a tree are saved: a walk that follows no symlink and names what it leaves out.

Always left out: the ``never`` paths of a tree (our own stores, by path and by inode, so that a bind mount of the same
folder is recognised), folders that our restores made (see ``ours``), and paths that another tree of the same archive
saves. Sockets, pipes and devices hold no data and are skipped with a warning; so are files that vanish during the walk.
What exists and cannot be read is *lost*: the backup is degraded.

The walk holds the descriptors of the folders that it is in, and opens everything by its name inside them. So nobody
who may write in the tree can lead it to another place by replacing a folder with a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from scriptorium.errors import NotFound, SourceUnavailable, UsageError
from scriptorium.fs.descriptors import FILE, FOLDER, Descent, reached
from scriptorium.fs.ours import PREFIX, is_ours
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.members.patterns import Patterns, compiled
from scriptorium.members.remarks import Remark
from scriptorium.model import Survey, Tree

Warn = Callable[[Remark], None]

_GONE = (errno.ENOENT, errno.ENOTDIR)

_OURS = PREFIX.encode()
_ODD = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Found:
    """Something to save: its path in the archive, its status when the walk found it, and how it is opened.

    ``kind`` is file, folder or symlink (with ``target``). ``name`` is in the folder of the descriptor ``within``, which
    is open until the next one is requested.
    """

    path: str
    kind: str
    stat: os.stat_result
    within: int
    name: bytes
    target: str | None = None

    def open(self) -> int:
        """A descriptor for reading; the caller closes it. No link is followed. Raises ``OSError``."""
        return os.open(self.name, FOLDER if self.kind == "folder" else FILE, dir_fd=self.within)


@dataclass(slots=True)
class _Level:
    """A folder of the walk: the rest of its entries, and itself until one of its entries has been returned."""

    names: Iterator[bytes]
    path: str
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
    above: set[str] = field(default_factory=set)  # the folders above the paths that other trees save

    def __post_init__(self) -> None:
        self.include, self.exclude = compiled(*self.tree.include), compiled(*self.tree.exclude)
        self.above = {step for path in self.claimed for step in _folders_above(path)}
        self.root = os.path.realpath(encoded(self.tree.root))
        for path in self.tree.never:
            real = os.path.realpath(encoded(path))
            self.never_paths.add(real)
            try:
                status = os.stat(real)  # noqa: PTH116 -- bytes, which Path cannot hold
            except OSError:
                continue
            self.never_inodes.add((status.st_dev, status.st_ino))

    def run(self) -> Iterator[Found]:
        try:
            with reached(encoded(self.tree.root)) as (parent, name):
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                yield from self._root(parent, name, status)
        except (FileNotFoundError, NotADirectoryError):
            if self.tree.optional:
                return
            raise NotFound("what is to be saved is not there", on=self.tree.root, hint="correct its path") from None
        except OSError as error:
            raise SourceUnavailable(
                f"cannot be read: {reason_of(error)}", on=self.tree.root, hint=advice(error, self.tree.root)
            ) from None

    def _root(self, parent: int, name: bytes, status: os.stat_result) -> Iterator[Found]:
        if self._forbidden(self.root, status):
            self.warn(Remark(self.tree.root, "backups are written here, skipped"))
        elif stat.S_ISDIR(status.st_mode):
            root = os.open(name, FOLDER, dir_fd=parent)
            try:
                descent = Descent(root)
            finally:
                os.close(root)
            with closing(descent):
                yield from self._folders(descent, Found(self.tree.at, "folder", status, parent, name))
        elif not stat.S_ISREG(status.st_mode):
            raise UsageError(
                f"what is to be saved is {odd_kind(status.st_mode)}", on=self.tree.root, hint="correct its path"
            )
        else:
            at = self.tree.at or decoded(os.path.basename(encoded(self.tree.root)))  # noqa: PTH119
            found = self._found(at, parent, name, status)
            if found is not None and at not in self.claimed:
                yield found

    def _folders(self, descent: Descent, root: Found) -> Iterator[Found]:
        top = root if self.tree.at else None
        everything = not self.tree.include
        if everything and top is not None:
            yield top
        levels = [_Level(_listing(descent), self.tree.at, "", everything, None if everything else top)]
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is None:
                levels.pop()
                for _ in range(descent.leave()):
                    self.warn(Remark(levels.pop().path, "was moved while it was read", lost=True))
                continue
            relative = f"{level.relative}/{decoded(name)}" if level.relative else decoded(name)
            found = self._entry(descent.descriptor, name, relative)
            if found is None:
                continue
            taken = level.taken or self._included(relative, found.kind == "folder")
            if taken:
                for depth, above in enumerate(levels):
                    if above.pending is not None:
                        yield above.pending if above is levels[0] else self._held(descent, depth, above.pending)
                        above.pending = None
                yield found
            if found.kind == "folder" and (taken or self._worth_walking(relative)):
                names = self._inside(descent, found)
                if names is not None:
                    levels.append(_Level(names, found.path, relative, taken, None if taken else found))

    def _held(self, descent: Descent, depth: int, folder: Found) -> Found:
        """A folder that the walk is in. If it is too far above to be still open, only its attributes are lost."""
        itself = descent.held(depth)
        if itself < 0:
            self.warn(Remark(folder.path, "its attributes could not be read: too many folders are above what is saved"))
        return replace(folder, within=itself, name=b".")

    def _inside(self, descent: Descent, folder: Found) -> Iterator[bytes] | None:
        try:
            descent.enter(folder.name)
        except OSError as error:
            self.warn(unread(folder.path, error))
            return None
        try:
            return _listing(descent)
        except OSError as error:
            descent.leave()
            self.warn(unread(folder.path, error))
            return None

    def _entry(self, within: int, name: bytes, relative: str) -> Found | None:
        path = f"{self.tree.at}/{relative}" if self.tree.at else relative
        if path in self.claimed:
            return None
        if name.startswith(_OURS) and is_ours(b"%b/%b" % (self.root.rstrip(b"/"), encoded(relative))):
            self.warn(Remark(path, "a folder that a restore of ours made, skipped"))
            return None
        try:
            status = os.stat(name, dir_fd=within, follow_symlinks=False)
        except OSError as error:
            self.warn(unread(path, error))
            return None
        if self._excluded(relative, stat.S_ISDIR(status.st_mode)):
            return None
        if self._forbidden(b"%b/%b" % (self.root.rstrip(b"/"), encoded(relative)), status):
            return None
        if stat.S_ISLNK(status.st_mode) and path in self.above:  # another tree needs a folder of this name
            return None
        return self._found(path, within, name, status)

    def _found(self, path: str, within: int, name: bytes, status: os.stat_result) -> Found | None:
        if stat.S_ISREG(status.st_mode):
            return Found(path, "file", status, within, name)
        if stat.S_ISDIR(status.st_mode):
            return Found(path, "folder", status, within, name)
        if stat.S_ISLNK(status.st_mode):
            try:
                return Found(path, "symlink", status, within, name, decoded(os.readlink(name, dir_fd=within)))
            except OSError as error:
                self.warn(unread(path, error))
                return None
        self.warn(Remark(path, f"{odd_kind(status.st_mode)}, skipped"))
        return None

    def _excluded(self, relative: str, is_dir: bool) -> bool:
        return self.exclude.match(relative, is_dir)

    def _included(self, relative: str, is_dir: bool) -> bool:
        return self.include.match(relative, is_dir)

    def _worth_walking(self, relative: str) -> bool:
        return self.include.may_match_below(relative)

    def _forbidden(self, source: bytes, status: os.stat_result) -> bool:
        if stat.S_ISLNK(status.st_mode):
            return False
        return source in self.never_paths or (status.st_dev, status.st_ino) in self.never_inodes


def _listing(descent: Descent) -> Iterator[bytes]:
    """The names in the folder that was entered last, in byte order."""
    return iter(sorted(os.fsencode(name) for name in os.listdir(descent.descriptor)))  # noqa: PTH208 -- a descriptor


def select(tree: Tree, warn: Warn, claimed: frozenset[str] = frozenset()) -> Iterator[Found]:
    """The entries of the tree that are saved: folders before their contents, names in byte order.

    The path of the root may contain symlinks (see ``fs.descriptors``); below it none is followed. A folder that matches
    ``exclude`` is not entered. With ``include``, a file is taken when it or a folder above it matches; the folders on
    the way come with it. ``claimed``: archive paths that other trees save (see ``claims``). Memory: the names of the
    folders on the way down.
    Raises ``NotFound`` (no such root, not ``optional``), ``SourceUnavailable`` (the root cannot be read), ``Untrusted``
    (somebody's link leads to what is not theirs).
    """
    return _Walk(tree, warn, claimed).run()


def claims(trees: Sequence[Tree], of: Tree) -> frozenset[str]:
    """Archive paths below ``of`` that another tree saves: the raw files there are not saved a second time."""
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
    total = count = sparse = 0
    seen: set[tuple[int, int]] = set()  # files with several names are saved once
    for tree in trees:
        for found in select(tree, lambda _: None, claims(trees, tree)):
            inode = (found.stat.st_dev, found.stat.st_ino)
            if found.kind == "file" and inode not in seen:
                total += found.stat.st_size
                sparse += holes(found.stat)
            if found.kind == "file" and found.stat.st_nlink > 1:
                seen.add(inode)
            count += found.kind != "folder"
    return Survey(total, count, holes=sparse)


def holes(status: os.stat_result) -> int:
    """How many bytes of a file take no space on its disk."""
    return max(0, status.st_size - status.st_blocks * 512)


def odd_kind(mode: int) -> str:
    """The kind of something that is neither a file nor a folder, in words."""
    return _ODD.get(stat.S_IFMT(mode), "neither a file nor a folder")


def unread(path: str, error: OSError) -> Remark:
    """The remark on something that could not be read."""
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
