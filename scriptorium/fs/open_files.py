"""Which processes have files open: from ``/proc/*/fd``, or from locks if we may not read a process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from scriptorium.errors import Untrusted
from scriptorium.fs.descriptors import open_file
from scriptorium.model import Holder

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid; padded to the kernel's size


def holders_of(paths: Iterable[Path]) -> Iterator[Holder]:
    """Other processes that have one of the files open, or anything below one of the folders (once per process).

    Files are compared by device and inode, folders by path. Processes whose descriptors we may not read
    (another user's, unless we are root) are not seen: ``lock_holder`` finds those that hold a lock.
    """
    files: dict[tuple[int, int], str] = {}
    folders: list[str] = []
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.stat()
            if path.is_dir():
                folders.append(str(path.resolve()))
            else:
                files[found.st_dev, found.st_ino] = str(path)
    if not files and not folders:
        return
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        if pid != os.getpid() and (path_open := _open_in(pid, files, folders)):
            yield Holder(pid, command_of(pid), path_open)


def _open_in(pid: int, files: dict[tuple[int, int], str], folders: list[str]) -> str | None:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            link = os.fspath(descriptor.readlink())
            if not link.startswith("/"):  # sockets, pipes
                continue
            for folder in folders:
                if link == folder or link.startswith(folder + "/"):
                    return link.removesuffix(" (deleted)")
            if files:
                found = descriptor.stat()
                if (found.st_dev, found.st_ino) in files:
                    return files[found.st_dev, found.st_ino]
    return None


def lock_holder(path: Path) -> int | None:
    """The process that holds a POSIX lock on the file; ``None`` if nobody does.

    0 if the holder is in another process namespace (a container). The question takes no lock. Closing the file drops
    this process's own locks on it, but it has none.
    """
    try:
        handle = open_file(path)
    except (OSError, Untrusted):
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    except OSError:
        return None
    finally:
        os.close(handle)
    return None if kind == fcntl.F_UNLCK else max(int(pid), 0)


def command_of(pid: int) -> str:
    """The process's short name, or ``?`` if it cannot be read."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "in another container" if pid == 0 else "?"
