"""Remove whole trees: also trees that are too deep for Python's own function, and folders whose modes keep us out."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

_TOO_DEEP = (errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG)
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it. Follows no link, even if others change the tree meanwhile."""
    _remove(str(folder), None)


def empty(descriptor: int, *, last: str = "") -> None:
    """Remove everything in an open folder, even if it was renamed; the entry named ``last`` is removed last."""
    for name in sorted(os.listdir(descriptor), key=lambda name: name == last):
        if _is_folder(name, descriptor):
            _remove(name, descriptor)
        else:
            os.unlink(name, dir_fd=descriptor)


def _remove(name: str, parent: int | None) -> None:
    try:
        shutil.rmtree(name, dir_fd=parent)  # one call and one open folder for each level: fails below about a thousand
    except (PermissionError, RecursionError):
        _take_apart(name, parent)
    except OSError as error:
        if error.errno not in _TOO_DEEP:
            raise
        _take_apart(name, parent)


def _take_apart(name: str, parent: int | None) -> None:
    """Move each inner folder to the top before it is emptied, so that no path becomes deep."""
    names = (f".{secrets.token_hex(8)}-{number}" for number in itertools.count())
    with _opened(name, parent) as top:
        while entries := os.listdir(top):  # noqa: PTH208  a descriptor, not a path
            for entry in entries:
                if _is_folder(entry, top):
                    _empty(entry, top, names)
                    os.rmdir(entry, dir_fd=top)
                else:
                    os.unlink(entry, dir_fd=top)
    os.rmdir(name, dir_fd=parent)


def _empty(name: str, top: int, names: Iterator[str]) -> None:
    with _opened(name, top) as inside:
        for entry in os.listdir(inside):  # noqa: PTH208
            if _is_folder(entry, inside):
                with _opened(entry, inside):  # a folder can only be moved if we may write to it
                    os.rename(entry, next(names), src_dir_fd=inside, dst_dir_fd=top)
            else:
                os.unlink(entry, dir_fd=inside)


def _is_folder(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


@contextlib.contextmanager
def _opened(name: str, parent: int | None) -> Iterator[int]:
    """A folder's descriptor. Its mode is changed, if needed, so that we may enter it and write to it."""
    held = os.open(name, os.O_PATH | _FOLDER, dir_fd=parent)
    try:
        itself = f"/proc/self/fd/{held}"
        if stat.S_IMODE(os.fstat(held).st_mode) & 0o700 != 0o700:
            os.chmod(itself, 0o700)  # noqa: PTH101  through the descriptor: nobody can put a link in its place
        folder = os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(held)
    try:
        yield folder
    finally:
        os.close(folder)
