"""Writes into given roots and nowhere else, whatever paths an archive has.

Every folder on the way is opened by its name inside the one before it, without following symlinks. So neither a symlink
that an earlier member made nor one that was there already can lead a write out of the root. Existing files and symlinks
are replaced, never written through.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from scriptorium.errors import RestoreFailed, UnsafeArchive
from scriptorium.fs.descriptors import folder_at, require_own
from scriptorium.manifest import readable
from scriptorium.members.selection import encoded

T = TypeVar("T")

_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Placing:
    """Opens the folder of a destination. The folders of the last one stay open, because the next one is often near.
    ``owner``: of folders that are made on the way, also if no member describes them."""

    def __init__(self, roots: Sequence[Path], *, owner: tuple[int, int] | None = None) -> None:
        self._owner = owner
        self._roots = sorted((encoded(str(root)) for root in roots), key=len, reverse=True)
        self._open: list[tuple[bytes, int]] = []  # the root, then one name for each folder

    def close(self) -> None:
        self._drop(0)

    def parent(self, destination: Path) -> tuple[int, bytes]:
        """The descriptor of the folder that holds the destination (missing folders are made), and the last name.

        The name is empty when the destination is a root itself. Raises ``UnsafeArchive``.
        """
        root, names = self._split(destination)
        keep = 0
        wanted = [root, *names[:-1]]
        while keep < min(len(self._open), len(wanted)) and self._open[keep][0] == wanted[keep]:
            keep += 1
        self._drop(keep)
        for name in wanted[keep:]:
            self._open.append((name, self._enter(name, destination)))
        return self._open[-1][1], names[-1] if names else b""

    def folder(self, destination: Path) -> int:
        """The descriptor of the destination, which is or becomes a folder; the caller closes it."""
        parent, name = self.parent(destination)
        if not name:
            return os.dup(parent)
        return self._make(name, parent, destination)

    def new_file(self, destination: Path) -> int:
        """The descriptor of a new, empty file of mode 0600; the caller closes it."""
        parent, name = self._named(destination)
        return _replacing(lambda: os.open(name, _NEW_FILE, 0o600, dir_fd=parent), parent, name, destination)

    def symlink(self, destination: Path, target: str) -> tuple[int, bytes]:
        """Make a symlink with exactly this target; returns its folder and its name."""
        parent, name = self._named(destination)
        _replacing(lambda: os.symlink(encoded(target), name, dir_fd=parent), parent, name, destination)
        return parent, name

    def hardlink(self, destination: Path, folder: int, existing: bytes, *, links: bool = False) -> bool:
        """A further name for the file ``existing`` in the open ``folder``; false where it cannot be. ``links``: it may
        be a symlink."""
        parent, name = self._named(destination)
        kind = stat.S_IFMT(os.stat(existing, dir_fd=folder, follow_symlinks=False).st_mode)
        if kind != stat.S_IFREG and not (links and kind == stat.S_IFLNK):
            raise UnsafeArchive("a hard link to something that is no file", on=readable(str(destination)))
        link = os.link
        try:
            _replacing(
                lambda: link(existing, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False),
                parent,
                name,
                destination,
            )
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return False
        return True

    def _named(self, destination: Path) -> tuple[int, bytes]:
        parent, name = self.parent(destination)
        if not name:
            raise UnsafeArchive("a file would replace the folder to restore to", on=readable(str(destination)))
        return parent, name

    def _split(self, destination: Path) -> tuple[bytes, list[bytes]]:
        whole = encoded(str(destination))
        for root in self._roots:
            if whole == root:
                return root, []
            inside = root.rstrip(b"/") + b"/"
            if whole.startswith(inside):
                names = whole[len(inside) :].split(b"/")
                if any(name in (b"", b".", b"..") for name in names):
                    break
                return root, names
        raise UnsafeArchive("would be written outside the folder to restore to", on=readable(str(destination)))

    def _enter(self, name: bytes, destination: Path) -> int:
        if self._open:
            return self._make(name, self._open[-1][1], destination)
        with contextlib.suppress(FileExistsError):  # the root: on the way to it there may be symlinks
            os.makedirs(name, 0o700)  # noqa: PTH103 -- bytes
        with folder_at(name) as root:
            require_own(root, Path(os.fsdecode(name)))
            return os.dup(root)

    def _make(self, name: bytes, parent: int, destination: Path) -> int:
        new = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
            new = True
        try:
            folder = os.open(name, _FOLDER, dir_fd=parent)
            if new and self._owner is not None:
                with contextlib.suppress(OSError):  # on a filesystem without owners; its members report that
                    os.fchown(folder, *self._owner)
            return folder
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UnsafeArchive(
                    "a symlink or a file is where a folder should be", on=readable(str(destination))
                ) from None
            raise

    def _drop(self, keep: int) -> None:
        while len(self._open) > keep:
            os.close(self._open.pop()[1])


def _replacing(make: Callable[[], T], parent: int, name: bytes, destination: Path) -> T:
    """Make something under a new name; a file or symlink of that name is removed first."""
    try:
        return make()
    except FileExistsError:
        pass
    try:
        os.unlink(name, dir_fd=parent)
    except (IsADirectoryError, PermissionError):
        raise RestoreFailed(
            "a folder is where a file should be", on=readable(str(destination)), hint="restore to an empty folder"
        ) from None
    return make()


def sync_filesystem(descriptor: int) -> None:
    """Write everything on the filesystem of this descriptor to the disk: one wait for all files."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
