"""Results of copying: which backup is in which store now, and what could not be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.report.backups import copy_document
from scriptorium.report.report import Document, Fields, Report, Row, Table

if TYPE_CHECKING:
    from scriptorium.model import Backup
    from scriptorium.results import Copied, CopyResult, PlannedCopy


def copy_report(result: CopyResult, library: str | None = None) -> Report:
    """The report on what was copied; of a dry run, on what would be."""
    rows = [_planned_row(one) for one in result.planned] if result.dry_run else [_row(one) for one in result.copied]
    failed = {f"no copy of {what}": str(error) for what, error in result.failed.items()}
    return Report(
        "copy",
        library or "all",
        "Copies between stores",
        document=_document(result),
        blocks=(Fields(failed, detail=True), Table(rows, right=("Size", "Took"))),
        warnings=[f"{what}: {reason}" for what, reason in failed.items()] if result.dry_run else (),
        notes=[_present(backup, store) for backup, store in result.present],
        verdict=_verdict(result),
        good=not result.failed,
    )


def _verdict(result: CopyResult) -> str:
    if result.dry_run:
        size = wording.size(sum(one.bytes for one in result.planned))
        return f"dry run: {_copies(len(result.planned))} to make, {size}; nothing was copied"
    made = f"{_copies(len(result.copied))} made" if result.copied or not result.present else "nothing is missing"
    return f"{made}, {len(result.failed)} could not be made" if result.failed else made


def _present(backup: Backup, store: str) -> str:
    if any(copy.status.good for copy in backup.copies_in(store)):
        return f"{backup.id} has a good copy in {store} already"
    return f"{backup.id} has a copy in {store} that reads back as it was written, but a drill could not prove it"


def _copies(count: int) -> str:
    return f"{count} cop{'y' if count == 1 else 'ies'}"


def _document(result: CopyResult) -> Document:
    return {
        "dry_run": result.dry_run,
        "planned": [
            {"id": one.backup.id, "library": one.backup.library, "to": one.to, "from": _from(one), "bytes": one.bytes}
            for one in result.planned
        ],
        "copied": [
            {"id": one.backup.id, "library": one.backup.library, "from": one.source, **copy_document(one.copy)}
            for one in result.copied
        ],
        "present": [{"id": backup.id, "store": store} for backup, store in result.present],
        "failed": {what: error.exact for what, error in result.failed.items()},
    }


def _from(planned: PlannedCopy) -> str:
    return planned.to if planned.unread is not None else planned.sources[0].store


def _row(one: Copied) -> Row:
    return {
        "ID": one.backup.id,
        "Name": one.backup.name,
        "From": one.source,
        "To": one.copy.store,
        "Copy": one.copy.label,
        "Size": wording.size(one.copy.bytes),
        "Took": wording.duration(one.seconds),
        "How": "was there, read back" if one.finished else "as it was" if one.unchanged else "packed again",
    }


def _planned_row(one: PlannedCopy) -> Row:
    return {
        "ID": one.backup.id,
        "Name": one.backup.name,
        "Taken (UTC)": wording.utc(one.backup.created_at),
        "From": _from(one),
        "To": one.to,
        "Size": wording.size(one.bytes),
    }
