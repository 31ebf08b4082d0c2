"""Records of runs that have no copy to show: running now, failed, cancelled. A run that ended well leaves none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.model import Backup, BackupType, Status, Tier
from scriptorium.settings import Settings

_KEPT = 100


def _folder(settings: Settings) -> Path:
    return settings.workroom / "runs"


def begin_run(settings: Settings, backup: Backup) -> None:
    """Record that a backup is being taken by this process."""
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _prune(folder)
    _write(folder / f"{backup.id}.json", backup, Status.RUNNING, "")


def finish_run(settings: Settings, backup: Backup, status: Status, error: str = "") -> None:
    """Record how it ended; with a copy in a store (``COMPLETE``, ``VERIFIED``) the record is dropped."""
    file = _folder(settings) / f"{backup.id}.json"
    if status.good:
        file.unlink(missing_ok=True)
    else:
        _write(file, backup, status, error)


def _write(file: Path, backup: Backup, status: Status, error: str) -> None:
    facts = {
        "id": backup.id,
        "name": backup.name,
        "library": backup.library,
        "type": str(backup.type),
        "tier": str(backup.tier),
        "created_at": backup.created_at.isoformat(),
        "description": backup.description,
        "status": str(status),
        "error": error,
        "pid": os.getpid(),
        "written_at": datetime.now(UTC).isoformat(),
    }
    beside = file.with_suffix(".partial")
    beside.write_text(json.dumps(facts), "utf-8")
    beside.chmod(0o600)
    beside.replace(file)


def runs(settings: Settings) -> Iterator[Backup]:
    """The recorded runs. One that says it is running while its process is gone was cut short: it failed."""
    folder = _folder(settings)
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            facts = json.loads(file.read_bytes())
            status, error = Status(facts["status"]), str(facts["error"])
            if status is Status.RUNNING and not _alive(int(facts["pid"]), datetime.fromisoformat(facts["written_at"])):
                status, error = Status.FAILED, "the run was cut short (its process is gone)"
            yield Backup(
                id=facts["id"],
                name=facts["name"],
                library=facts["library"],
                type=BackupType(facts["type"]),
                tier=Tier(facts["tier"]),
                created_at=datetime.fromisoformat(facts["created_at"]),
                description=facts["description"],
                bytes=0,
                status=status,
                error=error,
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a record is for information; a torn one says nothing


def _alive(pid: int, since: datetime) -> bool:
    """Whether that process still runs, and is not a later one that was given the same number."""
    import psutil

    try:
        return psutil.Process(pid).create_time() <= since.timestamp() + 1.0
    except psutil.Error:
        return False


def _prune(folder: Path) -> None:
    records = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in records[_KEPT:]:
        old.unlink(missing_ok=True)
