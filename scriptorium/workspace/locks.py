"""The workspace folder: one lock for each library, one staging folder for each run.

::

    <workspace>/
        <library>.lock            held (flock) during a run; the kernel frees it when we die
        <library>.holder.json     who holds it, for messages; only valid while the lock is held
        staging/<library>-<id>/   the files of one run; what is there when the lock is taken was left by a crash
        reading/<backup id>       see ``readers``
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from scriptorium.errors import DamageFound, LibraryBusy, NoSpace, SettingsError, Untrusted
from scriptorium.fs import atomic
from scriptorium.fs.attributes import held_open, inherit_nothing
from scriptorium.fs.descriptors import require_ours
from scriptorium.fs.places import Places, real_path
from scriptorium.fs.removal import remove_tree
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.manifest.record import decoded, encoded
from scriptorium.settings import Settings
from scriptorium.words import BackupType

log = logging.getLogger(__name__)


def root(settings: Settings) -> Path:
    """The workspace folder, made (0700) where it is missing. ``SettingsError`` when it cannot be, ``Untrusted`` when
    others may write to it: its journals are carried out, and its files go into archives."""
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
    """Turn errors of the operating system about the workspace into errors that say what to do."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "there is no space left to work in"
            raise NoSpace(what, on=str(path), hint="free some space, or run cleanup") from error
        raise SettingsError(
            f"the workspace cannot be used: {reason_of(error)}",
            on=str(path),
            hint=f"{advice(error, path) or 'look at it'}; or set 'workspace' to another folder",
        ) from error


@contextlib.contextmanager
def lock(settings: Settings, library: str, doing: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the library for one run. ``LibraryBusy`` says who has it. What earlier runs left in staging is removed."""
    folder = root(settings)
    holder = folder / f"{library}.holder.json"
    held = FileLock(folder / f"{library}.lock", mode=0o600, fallback_to_soft=False)  # a crash frees it
    try:
        with _trouble(folder / f"{library}.lock"):
            held.acquire(timeout=wait)
    except Timeout:
        raise LibraryBusy(
            f"another run holds the library{_who(holder)}", on=library, hint="wait for it to end, or cancel it"
        ) from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        atomic.sweep(folder, holder.name, seconds=0)
        with contextlib.suppress(OSError):  # it is only for messages
            who = {"pid": os.getpid(), "host": socket.gethostname(), "doing": doing, "since": since}
            atomic.write(holder, encoded(who))
        _clear_staging(folder, library)
        yield
        holder.unlink(missing_ok=True)
    finally:
        held.release()


def scratch_name(library: str) -> str:
    """The name under which drills of a library lock and stage: its backups do not wait for them."""
    return f"{library}~drill"


def copy_name(library: str, store: str) -> str:
    """The name under which copies of a library into a store lock and stage: its backups do not wait for them."""
    return f"{library}~copy~{store}"


def _who(holder: Path) -> str:
    try:
        who = decoded(holder.read_bytes(), "holder of the lock")
        return f": {who.text('doing')}, process {who.number('pid')} on {who.text('host')}, since {who.text('since')}"
    except (OSError, DamageFound):
        return ""


def _clear_staging(folder: Path, library: str) -> None:
    with _trouble(folder / "staging"):
        for left in (folder / "staging").glob(f"{library}-????????????"):
            log.warning("%s is removed: a run that was cut short left it", left)
            remove_tree(left)


@contextlib.contextmanager
def staging(settings: Settings, library: str, run: str) -> Iterator[Path]:
    """An empty folder for one run (``run``: 12 hex digits), removed at its end whatever happens."""
    folder = root(settings) / "staging" / f"{library}-{run}"
    with _trouble(folder):
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)
        with held_open(folder) as held:
            inherit_nothing(held)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            remove_tree(folder)


def hashes_file(settings: Settings, library: str, type: BackupType) -> Path:
    """Where the hashes of the files of a library are kept from one backup to the next."""
    return root(settings) / "hashes" / f"{library}.{type.value}"


def empty_folder(folder: Path) -> None:
    """Make a folder, or empty the one that an earlier attempt left."""
    if folder.exists():
        remove_tree(folder)
    folder.mkdir(mode=0o700)
