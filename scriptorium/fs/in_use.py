"""Whether an application has a file open for writing, whatever its user and container.

Processes of another container are not in ``/proc``. A lock shows nothing after its holder has released it, and an
application that makes its own backup releases it: closing any descriptor of a file drops all POSIX locks that the
process has on the file. The kernel refuses a read lease (``fcntl(2)``, ``F_SETLEASE``) while anybody has the file open
for writing. The lease is released at once, so that nobody waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_WATCHED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """``writers``: files that somebody has open for writing, or that changed while they were watched. ``unknown``: why
    some files could not be examined; these may be in use."""

    writers: tuple[str, ...] = ()
    unknown: str = ""


def look(files: Iterable[Path], watched: Iterable[Path] = (), *, seconds: float = _WATCHED_SECONDS) -> Look:
    """Ask the kernel for each of the files, and watch those of ``watched`` for a moment (a WAL that grows).

    Changes nothing, and does not disturb the application.
    """
    present, unknown = [path for path in files if path.is_file()], ""
    writers = []
    for path in present:
        trouble = _lease(path)
        if trouble == errno.EAGAIN:
            writers.append(f"{path} is open for writing")
        elif trouble:
            unknown = unknown or f"{path}: {os.strerror(trouble)}"
    if writers:
        return Look(tuple(writers), unknown)
    changing = _changing([*present, *watched], seconds)
    return Look(tuple(f"{path} changes" for path in changing), unknown)


def _lease(path: Path) -> int:
    """0 if a read lease was given, else the number of the error."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        # If somebody opens the file meanwhile, the kernel sends us this signal; by default it has no effect.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(descriptor)
    return 0


def _changing(paths: Iterable[Path], seconds: float) -> list[str]:
    before = {str(path): _state(path) for path in paths}
    if not before:
        return []
    time.sleep(seconds)
    return [path for path, was in before.items() if _state(Path(path)) != was]


def _state(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None
