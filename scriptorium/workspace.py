"""The workroom: one lock a library, a staging folder a run, the check of free space, marks of who is reading.

::

    <workroom>/
        <library>.lock            held (flock) for the length of a run; the kernel frees it when we die
        <library>.holder.json     who holds it, for the message; without the lock it means nothing
        staging/<library>-<id>/   one run's files; whatever is there when the lock is taken was left by a crash
        reading/<backup id>       held shared while a backup is read, so that nothing removes it meanwhile
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from scriptorium import wording
from scriptorium.errors import LibraryBusy, NoSpace
from scriptorium.settings import Settings

_MARGIN = 64 << 20


def room(settings: Settings) -> Path:
    """The workroom, made (0700) when it is not there."""
    folder = settings.workroom
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextlib.contextmanager
def lock(settings: Settings, library: str, doing: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the library for one run. ``LibraryBusy`` says who has it. Former runs' leavings are cleared away."""
    folder = room(settings)
    holder = folder / f"{library}.holder.json"
    held = FileLock(folder / f"{library}.lock", mode=0o600)
    try:
        held.acquire(timeout=wait)
    except Timeout:
        raise LibraryBusy(
            f"another run holds the library{_who(holder)}", on=library, hint="wait for it to end, or cancel it"
        ) from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        _write(holder, {"pid": os.getpid(), "host": socket.gethostname(), "doing": doing, "since": since})
        _clear_staging(folder, library)
        yield
        holder.unlink(missing_ok=True)
    finally:
        held.release()


def _write(file: Path, facts: dict[str, object]) -> None:
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(facts), "utf-8")
    beside.chmod(0o600)
    beside.replace(file)


def _who(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text("utf-8"))
        return f": {facts['doing']}, process {facts['pid']} on {facts['host']}, since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _clear_staging(folder: Path, library: str) -> None:
    for left in (folder / "staging").glob(f"{library}-????????????"):
        shutil.rmtree(left)


@contextlib.contextmanager
def staging(settings: Settings, library: str, run: str) -> Iterator[Path]:
    """An empty folder for one run (``run``: 12 hex digits), removed at its end whatever happens."""
    folder = room(settings) / "staging" / f"{library}-{run}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """``NoSpace`` unless ``folder``'s filesystem has ``needed`` bytes and a margin free."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed + _MARGIN:
        raise NoSpace(
            f"{what} needs {wording.size(needed + _MARGIN)}, there are {wording.size(free)}",
            on=str(place),
            hint="free some room, run cleanup, or set 'workspace' to a larger filesystem",
        )


@contextlib.contextmanager
def reading(settings: Settings, backup_id: str) -> Iterator[None]:
    """Mark a backup as being read for the length of the block."""
    folder = room(settings) / "reading"
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / backup_id
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # a reader that ended between our open and our lock may have removed the file: then lock the new one
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                break
        os.close(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        os.close(descriptor)


def being_read(settings: Settings) -> frozenset[str]:
    """The ids of backups that some process is reading now."""
    busy = set()
    with contextlib.suppress(FileNotFoundError):
        for path in (settings.workroom / "reading").iterdir():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy.add(path.name)
    return frozenset(busy)


def empty_folder(folder: Path) -> None:
    """Make a folder, or empty the one that a former try left."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)


def forget_cached(file: Path) -> None:
    """Ask the kernel to drop its cache of a file that is safely on disk, so that a check reads the disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
