"""Write files that exist whole or not at all, also after a power cut: the only way to write what must last.

A file is written beside its name (``.NAME.xxxxxxxx.partial``, 0600), flushed to the disk, and renamed; then its folder
is flushed to the disk too. Whoever opens the name sees the previous content or the new one, never a part of it. If a
writer is killed, ``sweep`` removes its partial file later.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from scriptorium.failpoints import reach

_DAY = 86_400.0
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(path: Path, data: bytes, *, failpoint: str = "", lasting: bool = True) -> None:
    """Replace the file by one with this content. ``lasting=False`` does not wait for the disk: for what has no meaning
    after a power cut. Readers see the whole file in this case too."""
    with beside(path, failpoint=failpoint, lasting=lasting) as partial, new_file(partial, lasting=lasting) as file:
        file.write(data)


@contextlib.contextmanager
def beside(path: Path, *, failpoint: str = "", lasting: bool = True) -> Iterator[Path]:
    """A name beside ``path``. The block makes a file or a folder of this name and flushes it to the disk; when the
    block ends, it is renamed to ``path``. If the block fails, it is removed.

    ``failpoint``: with ``.before-rename`` and ``.after-rename``, the points at which tests make the process die.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        if failpoint:
            reach(f"{failpoint}.before-rename")
        partial.replace(path)
        if failpoint:
            reach(f"{failpoint}.after-rename")
        if lasting:
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            if partial.is_dir() and not partial.is_symlink():
                shutil.rmtree(partial)
            else:
                partial.unlink(missing_ok=True)
        raise


def put_new(made: Path, path: Path) -> None:
    """Give a file or a folder, whose content is on the disk, the name ``path``. ``FileExistsError`` if something has
    this name already; only an empty folder is replaced, by a folder."""
    try:
        if made.is_dir():
            sync_folder(made)
            made.rename(path)
        else:
            _link(made, path)
    except OSError as error:
        if error.errno in _TAKEN:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise
    sync_folder(path.parent)


def _link(file: Path, path: Path) -> None:
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:  # this filesystem has no hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        file.replace(path)


@contextlib.contextmanager
def new_file(path: Path | str, folder: int | None = None, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """A new file (0600) that is on the disk when the block ends. ``folder``: an open folder; ``path`` is then a name in
    it. Raises ``FileExistsError``."""
    descriptor = os.open(path, _NEW, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        if lasting:
            os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    _sync(path, os.O_RDONLY | os.O_CLOEXEC)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk: a rename is not durable before that."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_cached(file: Path) -> None:
    """Flush a file to the disk and ask the kernel to drop its cache of it, so that a check reads the disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sweep(folder: Path, name: str, *, seconds: float = _DAY) -> None:
    """Remove the partial files that killed writers of the file ``name`` left in the folder, if they are older than
    ``seconds``. ``?`` and ``*`` in the name are wildcards; see ``exactly``."""
    before = time.time() - seconds
    for file in folder.glob(f".{name}.????????.partial"):
        with contextlib.suppress(OSError):
            if file.stat().st_mtime <= before:
                file.unlink()


def exactly(name: str) -> str:
    """The pattern for ``sweep`` that matches only this name."""
    return glob.escape(name)
