"""Records of runs that have no copy, or not every copy: running now, failed, cancelled, degraded. A run that succeeded
leaves none."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from scriptorium.catalog.run_progress import is_alive
from scriptorium.errors import DamageFound
from scriptorium.fs import atomic
from scriptorium.manifest import Record, decoded, encoded
from scriptorium.model import Backup, MissingCopy
from scriptorium.settings import Settings
from scriptorium.words import BackupType, JournalState, Status, Tier

log = logging.getLogger(__name__)

_KEPT = 100
_CUT_SHORT = "the run was cut short (its process is gone)"


def _folder(settings: Settings) -> Path:
    return settings.workspace_folder / "runs"


def begin_run(settings: Settings, backup: Backup) -> None:
    """Record that a backup is being taken by this process. ``backup.missing``: the stores that are to get a copy."""
    folder = _folder(settings)
    with contextlib.suppress(OSError):  # a record is only information: a full disk must not end the run here
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _prune(folder)
        _write(folder / f"{backup.id}.json", backup, Status.RUNNING, "")


def note_missing(settings: Settings, backup: Backup, missing: Sequence[MissingCopy]) -> None:
    """Record which copies the run of a backup could not make: then its record stays at its end."""
    with contextlib.suppress(OSError):
        _write(_folder(settings) / f"{backup.id}.json", replace(backup, missing=tuple(missing)), Status.RUNNING, "")


def finish_run(settings: Settings, backup: Backup, status: Status, error: str = "") -> None:
    """Record how the run ended. If it has a copy in every store (``COMPLETE``), the record is removed; if copies are
    missing (``DEGRADED``), it stays."""
    with contextlib.suppress(OSError):  # this must never hide the error that it records
        file = _folder(settings) / f"{backup.id}.json"
        if status.whole:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(file, backup, status, error)


def forget_missing(settings: Settings, id: str, store: str) -> None:
    """A store has the copy now that the run could not make."""
    for backup, status, alive in _records(settings):
        if backup.id != id or (status is Status.RUNNING and alive()):
            continue
        left = tuple(one for one in backup.missing if one.store != store)
        finish_run(settings, replace(backup, missing=left), status if left else Status.COMPLETE, backup.error)


def interrupted(settings: Settings, library: str) -> tuple[Backup, ...]:
    """Runs of a library that were cut short and still recorded as running; from now on they are recorded as failed.

    The lock of the library must be held: then the process of such a run is gone, even if its number is in use again.
    """
    cut = tuple(
        replace(backup, status=Status.FAILED, error=_CUT_SHORT)
        for backup, recorded, _ in _records(settings)
        if backup.library == library and recorded is Status.RUNNING
    )
    for backup in cut:
        finish_run(settings, backup, Status.FAILED, _CUT_SHORT)
    return cut


def half_restored(settings: Settings) -> Iterator[tuple[str, str]]:
    """Library and backup of every restore that is between its first rename and its end: it runs, or was cut short.

    Reads the journals of ``scriptorium.restore`` without a lock. A journal that cannot be read counts as such a
    restore.
    """
    folder = settings.workspace_folder / "restores"
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            journal = decoded(file.read_bytes(), "journal of a restore")
            library, backup = journal.text("library"), journal.text("backup")
            state = journal.word("state", JournalState)
        except FileNotFoundError:
            continue  # the restore has just ended
        except (OSError, DamageFound):
            library, backup, state = file.stem.rpartition("-")[0], "an unknown backup", JournalState.SWITCHING
        if state.halfway:
            yield library, backup


def _write(file: Path, backup: Backup, status: Status, error: str) -> None:
    record = {
        "id": backup.id,
        "name": backup.name,
        "library": backup.library,
        "type": str(backup.type),
        "tier": str(backup.tier),
        "created_at": backup.created_at.isoformat(),
        "description": backup.description,
        "status": str(status),
        "error": error,
        "missing": {one.store: one.reason for one in backup.missing},
        "pid": os.getpid(),
        "written_at": datetime.now(UTC).isoformat(),
    }
    atomic.write(file, encoded(record))


def runs(settings: Settings) -> Iterator[Backup]:
    """The recorded runs. A run whose process is gone although it is recorded as running was cut short, and failed."""
    for backup, recorded, alive in _records(settings):
        if recorded is Status.RUNNING and not alive():
            backup = replace(backup, status=Status.FAILED, error=_CUT_SHORT)
        yield backup


def _records(settings: Settings) -> Iterator[tuple[Backup, Status, Callable[[], bool]]]:
    """Every record that can be read, its recorded status, and a function that says whether its process still runs."""
    folder = _folder(settings)
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            record = decoded(file.read_bytes(), "record of a run")
            status = record.word("status", Status)
            backup = Backup(
                id=record.text("id"),
                name=record.text("name"),
                library=record.text("library"),
                type=record.word("type", BackupType),
                tier=record.word("tier", Tier),
                created_at=record.instant("created_at"),
                description=record.text("description"),
                bytes=0,
                status=status,
                error=record.text("error"),
                missing=_missing(record),
            )
            pid, since = record.number("pid"), record.instant("written_at")
        except (OSError, DamageFound) as error:
            log.info("the record %s is skipped: %s", file.name, error)  # a record is only information
            continue
        yield backup, status, partial(is_alive, pid, since)


def _missing(record: Record) -> tuple[MissingCopy, ...]:
    found = record.optional_record("missing")
    return tuple(MissingCopy(store, found.text(store)) for store in found.raw) if found else ()


def _prune(folder: Path) -> None:
    atomic.sweep(folder, "*")
    records = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in records[_KEPT:]:
        old.unlink(missing_ok=True)
