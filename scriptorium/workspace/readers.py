"""Who reads a backup now. Each backup has a lock that its readers share, so that it is not removed meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from scriptorium.fs.places import real_path
from scriptorium.settings import Settings


def _file(settings: Settings, backup_id: str) -> Path:
    return settings.workspace_folder / "reading" / backup_id


def receiver(store: str) -> str:
    """The name under which a store is marked while copies of older backups go into it: what is
    there of them is old, and would count as left by a crash."""
    return f"~{store}"


@contextlib.contextmanager
def reading(settings: Settings, backup_id: str) -> Iterator[None]:
    """Mark a backup as being read for the length of the block.

    Where no mark can be made (a store that is mounted read-only, a full disk), the block runs without it.
    """
    descriptor = _locked(settings, backup_id, fcntl.LOCK_SH)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # others still read it
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _file(settings, backup_id).unlink()
            os.close(descriptor)


@contextlib.contextmanager
def removing(settings: Settings, backup_id: str) -> Iterator[bool]:
    """Make readers wait while a backup is removed. Yields whether it may be removed: not while somebody reads it."""
    try:
        descriptor = _locked(settings, backup_id, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                _file(settings, backup_id).unlink()
            os.close(descriptor)


def _locked(settings: Settings, backup_id: str, how: int) -> int | None:
    """The locked descriptor of a backup's mark, ``None`` where none can be made. Raises ``BlockingIOError``."""
    path = _file(settings, backup_id)
    while True:
        try:
            real_path(path.parent)  # a link of another user is refused
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, how)
            # another reader may have removed the file between our open and our lock: then lock the new one
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def being_read(settings: Settings) -> frozenset[str]:
    """The ids of the backups that some process is reading now."""
    busy = set()
    with contextlib.suppress(FileNotFoundError):
        for path in (settings.workspace_folder / "reading").iterdir():
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                continue
            except (
                BlockingIOError,
                PermissionError,
            ):  # we cannot lock the mark of another user: count the backup as being read
                busy.add(path.name)
    return frozenset(busy)
