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
import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from scriptorium import wording
from scriptorium.errors import LibraryBusy, NoSpace, SettingsError, Untrusted
from scriptorium.fs.descriptors import require_ours
from scriptorium.fs.places import Places, real_path
from scriptorium.fs.removal import remove_tree, sweep_unnamed
from scriptorium.fs.system_errors import advice, said
from scriptorium.settings import Settings

_MARGIN = 64 << 20


def root(settings: Settings) -> Path:
    """The workroom, made (0700) when it is not there. ``SettingsError`` when it cannot be, ``Untrusted`` when others
    may write to it: what it holds is carried out, and goes into archives."""
    folder = settings.workspace_folder
    with _trouble(folder), closing(Places()) as places:
        real = real_path(folder)
        places.make_folders(real, 0o700)
        with places.folder(real) as opened:
            try:
                require_ours(opened, folder)
            except Untrusted as error:
                hint = "chown and chmod it (0700), or run this as its owner; or set 'workspace' to another folder"
                raise Untrusted(f"the workspace must be ours alone: {error.what}", on=str(folder), hint=hint) from error
    return folder


@contextlib.contextmanager
def _trouble(path: Path) -> Iterator[None]:
    """What the operating system says of the workroom, as what a person can do about it."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("there is no room to work in", on=str(path), hint="free some room, or run cleanup") from error
        raise SettingsError(
            f"the workroom cannot be used: {said(error)}",
            on=str(path),
            hint=f"{advice(error, path) or 'look at it'}; or set 'workspace' to another folder",
        ) from error


@contextlib.contextmanager
def lock(settings: Settings, library: str, doing: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the library for one run. ``LibraryBusy`` says who has it. Former runs' leavings are cleared away."""
    folder = root(settings)
    holder = folder / f"{library}.holder.json"
    held = FileLock(folder / f"{library}.lock", mode=0o600, fallback_to_soft=False)  # one that a crash frees, or none
    try:
        with _trouble(folder / f"{library}.lock"):
            held.acquire(timeout=wait)
    except Timeout:
        raise LibraryBusy(
            f"another run holds the library{_who(holder)}", on=library, hint="wait for it to end, or cancel it"
        ) from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        sweep_unnamed(folder, f".{library}.holder.[0-9]*", seconds=0)
        with contextlib.suppress(OSError):  # it is for a message; a full disk is found by who needs room
            _write(holder, {"pid": os.getpid(), "host": socket.gethostname(), "doing": doing, "since": since})
        _clear_staging(folder, library)
        yield
        holder.unlink(missing_ok=True)
    finally:
        held.release()


def scratch_name(library: str) -> str:
    """The name under which drills of a library lock and stage, so that they are not in the way of its backups."""
    return f"{library}~drill"


def _write(file: Path, facts: dict[str, object]) -> None:
    beside = file.with_name(f".{file.stem}.{os.getpid()}")  # no name of another library's begins with a dot
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
    with _trouble(folder / "staging"):
        for left in (folder / "staging").glob(f"{library}-????????????"):
            remove_tree(left)


@contextlib.contextmanager
def staging(settings: Settings, library: str, run: str) -> Iterator[Path]:
    """An empty folder for one run (``run``: 12 hex digits), removed at its end whatever happens."""
    folder = root(settings) / "staging" / f"{library}-{run}"
    with _trouble(folder):
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            remove_tree(folder)


def has_space(folder: Path, needed: int) -> bool:
    """Whether ``folder``'s filesystem has ``needed`` bytes and a margin free."""
    return _free(folder)[1] >= needed + _MARGIN


def _free(folder: Path) -> tuple[Path, int]:
    """The nearest folder that exists, and the free bytes there."""
    while not folder.exists():
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free


def require_space(folder: Path, needed: int, what: str) -> None:
    """``NoSpace`` unless ``folder``'s filesystem has ``needed`` bytes and a margin free."""
    place, free = _free(folder)
    if free < needed + _MARGIN:
        raise NoSpace(
            f"{what} needs {wording.size(needed + _MARGIN)}, there are {wording.size(free)}",
            on=str(place),
            hint="free some room, run cleanup, or set 'workspace' to a larger filesystem",
        )


@contextlib.contextmanager
def reading(settings: Settings, backup_id: str) -> Iterator[None]:
    """Mark a backup as being read for the length of the block.

    Where no mark can be made (a store that is mounted read-only, a full disk) a restore goes on without it.
    """
    descriptor = _mark(settings, backup_id, fcntl.LOCK_SH)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # others still read
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (settings.workspace_folder / "reading" / backup_id).unlink()
            os.close(descriptor)


@contextlib.contextmanager
def removing(settings: Settings, backup_id: str) -> Iterator[bool]:
    """Keep readers waiting while a backup is removed; yields whether it may be: not while something reads it."""
    try:
        descriptor = _mark(settings, backup_id, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                (settings.workspace_folder / "reading" / backup_id).unlink()
            os.close(descriptor)


def _mark(settings: Settings, backup_id: str, how: int) -> int | None:
    """The locked descriptor of a backup's mark, ``None`` where none can be made. Raises ``BlockingIOError``."""
    path = settings.workspace_folder / "reading" / backup_id
    while True:
        try:
            real_path(path.parent)  # no link of somebody's
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, how)
            # whoever ended between our open and our lock may have removed the file: then lock the new one
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def being_read(settings: Settings) -> frozenset[str]:
    """The ids of backups that some process is reading now."""
    busy = set()
    with contextlib.suppress(FileNotFoundError):
        for path in (settings.workspace_folder / "reading").iterdir():
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                continue
            except (BlockingIOError, PermissionError):  # another user's mark tells us nothing: be careful
                busy.add(path.name)
    return frozenset(busy)


def empty_folder(folder: Path) -> None:
    """Make a folder, or empty the one that a former try left."""
    if folder.exists():
        remove_tree(folder)
    folder.mkdir(mode=0o700)


def forget_cached(file: Path) -> None:
    """Ask the kernel to drop its cache of a file that is safely on disk, so that a check reads the disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
