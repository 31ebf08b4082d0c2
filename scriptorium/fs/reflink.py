"""Copying one open file: by a reflink if the filesystem has them, else in the kernel, else by reading and writing.

Holes stay holes. ``check`` is called between the pieces, so that a copy that has become useless ends early.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from scriptorium.errors import NoSpace, SourceUnavailable
from scriptorium.fs.descriptors import open_file

PIECE = 8 << 20
_FICLONE = 0x40049409
_CANNOT = {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.EBADF}


class CameShort(Exception):
    """The file ended before the requested size: somebody truncated it."""


def copy(source: int, target: Path, size: int, check: Callable[[int], None]) -> str:
    """Copy the first ``size`` bytes of the open file ``source`` to the new file ``target`` (mode 0600).

    ``check`` receives the number of bytes copied so far, and raises an exception to stop the copy. Returns how it was
    done: ``"reflink"`` or ``"copy"``. If this raises, the caller removes ``target``.
    """
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if size and _cloned(source, out, size):
            return "reflink"
        os.ftruncate(out, size)
        done = 0
        for start, end in _extents(source, size):
            while start < end:
                moved = _piece(source, out, start, min(PIECE, end - start))
                if moved == 0:
                    raise CameShort(str(target))
                start += moved
                done += moved
                check(done)
        return "copy"
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"no space for a copy of {size} bytes",
                on=str(target.parent),
                hint="free space there, or move the workspace",
            ) from error
        raise
    finally:
        os.close(out)


def _cloned(source: int, out: int, size: int) -> bool:
    try:
        fcntl.ioctl(out, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    if os.fstat(out).st_size < size:
        raise CameShort("clone")
    os.ftruncate(out, size)
    return True


def _extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of the file that contain data, up to ``size``."""
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # from here on there is only a hole
                if os.fstat(source).st_size < size:
                    raise CameShort("extent") from error
                return
            start = at
        if start >= size:
            return
        try:
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError:
            end = size
        yield start, min(end, size)
        at = end


def _piece(source: int, out: int, at: int, count: int) -> int:
    try:
        return os.copy_file_range(source, out, count, at, at)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    data = os.pread(source, min(count, 1 << 20), at)
    return os.pwrite(out, data, at) if data else 0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a regular file, open for reading during the block. ``Untrusted`` if the path has a link to what
    its maker does not own."""
    handle = open_file(path)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SourceUnavailable(
                "this is not a regular file", on=str(path), hint="find out what was put in its place"
            )
        yield handle
    finally:
        os.close(handle)
