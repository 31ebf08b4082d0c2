"""Results of ``database``: one database in one file, loaded from one, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.report.report import Fields, Report, Table

if TYPE_CHECKING:
    from scriptorium.model import Health
    from scriptorium.requests import DatabaseBackupRequest, DatabaseRestoreRequest


def database_backup_report(
    request: DatabaseBackupRequest, size: int, seconds: float | None = None, *, file: str = ""
) -> Report:
    """The report on a database that was written to one file. ``file``: its name as the user gave it."""
    return Report(
        "database-backup",
        request.library or "database",
        "Database written to one file",
        document={"file": request.file, "bytes": size, "format": str(request.format)},
        blocks=(_taken(seconds),),
        verdict=f"written: {file or request.file} ({wording.size(size)})",
    )


def database_restore_report(
    request: DatabaseRestoreRequest, warnings: Sequence[str], seconds: float | None = None, *, file: str = ""
) -> Report:
    """The report on a database that was loaded from one file. ``file``: its name as the user gave it."""
    return Report(
        "database-restore",
        request.library or "database",
        "Database loaded from one file",
        document={"file": request.file, "restored": True, "warnings": list(warnings)},
        blocks=(_taken(seconds),),
        notes=[f"warning: {warning}" for warning in warnings],
        verdict=f"loaded: {file or request.file}",
    )


def _taken(seconds: float | None) -> Fields:
    return Fields({} if seconds is None else {"took": wording.duration(seconds)}, detail=True)


def health_report(health: Health, library: str) -> Report:
    """The report on a look at a living database: what was looked at, and what is wrong."""
    found = health.findings
    return Report(
        "database-check",
        library,
        f"Check of the database of {library}",
        document={
            "sound": health.sound,
            "facts": health.properties,
            "findings": [{"verdict": one.verdict, "subject": one.subject, "detail": one.detail} for one in found],
        },
        blocks=(
            Fields(health.properties),
            Table([{"Wrong": one.verdict, "What": one.subject, "Detail": one.detail} for one in found]),
        ),
        verdict="the database is sound" if health.sound else f"{len(found)} problems were found in the database",
        good=health.sound,
    )
