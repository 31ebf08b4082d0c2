"""Results of backups: what was taken, what could not be saved, what was noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.model import Backup, Check, Manifest
from scriptorium.report.backups import backup_document
from scriptorium.report.report import Document, Fields, Report
from scriptorium.report.show import part_table

if TYPE_CHECKING:
    from scriptorium.errors import ScriptoriumError
    from scriptorium.results import BackupResult

_NAMES = 3  # in a terminal
_NAMES_ON_A_PAGE = 20


def backup_report(result: BackupResult) -> Report:
    """The report on a backup: its size, its stores, what was not saved, and each part."""
    backup, manifest = result.backup, result.manifest
    content = sum(part.bytes for part in manifest.parts)
    details = {
        "archived": f"{wording.size(backup.bytes)} from {wording.size(content)}",
        **{f"no copy in {store}": str(error) for store, error in result.failed.items()},
        **_not_saved(manifest),
        **{f"copied to {one.copy.store}, too": f"the backup {one.backup.id}" for one in result.completed},
        **{f"no copy of {what} yet": str(error) for what, error in result.uncompleted.items()},
        "took": wording.duration(result.seconds),
        **{f"{_kind(check)}: {check.name}": check.cases() for check in manifest.checks},
        "warnings": "; ".join(manifest.warnings[:_NAMES_ON_A_PAGE]) or "none",
    }
    return Report(
        "backup",
        backup.library,
        f"Backup {backup.name} of {backup.library}",
        document=backup_document(backup),
        blocks=(
            Fields(_fields(backup, [f"{copy.label} in {copy.store}" for copy in backup.copies])),
            Fields(details, detail=True),
            part_table(manifest),
        ),
    )


def _fields(backup: Backup, copies: Sequence[str]) -> Mapping[str, str]:
    return {
        "backup": f"{backup.name} of {backup.library}",
        "id": backup.id,
        "status": str(backup.status),
        "size": wording.size(backup.bytes),
        "copies": ", ".join(copies),
    }


def failure_document(library: str, what: str, hint: str, code: int) -> Document:
    """A library that could not be backed up, among the backups of the others."""
    return {"library": library, "error": what, "hint": hint, "exit_code": code}


def taken_report(backup: Backup, places: Sequence[str], manifest: Manifest | ScriptoriumError | None) -> Report:
    """The report for the user who asked for the backup. ``places``: where its copies are.

    ``manifest``: its manifest, or why that could not be read (the backup is taken all the same). None: nothing of it is
    shown.
    """
    return Report(
        "backup",
        backup.library,
        f"Backup {backup.name} of {backup.library}",
        document=backup_document(backup),
        blocks=(Fields(_fields(backup, places)),),
        warnings=[*(_unsaved(backup, manifest) if backup.unsaved and manifest else ()), *_not_stored(backup)],
        notes=_noticed(backup, manifest) if manifest else (),
    )


def _unsaved(backup: Backup, manifest: Manifest | ScriptoriumError) -> list[str]:
    """What could not be saved. Only the first ones are named."""
    if isinstance(manifest, Manifest):
        first = [f"{one.path}: {one.reason}" for one in manifest.unsaved[:_NAMES]]
    else:
        first = [f"their names could not be read: {manifest}"]
    lines = [f"{backup.unsaved:,} could not be saved: the backup {backup.id} of {backup.library} is degraded", *first]
    if backup.unsaved > len(first):
        lines.append(f"and {backup.unsaved - len(first):,} more (scriptorium show {backup.id} lists them)")
    return lines


def _not_stored(backup: Backup) -> list[str]:
    """The stores that have no copy. The next backup of the library makes it."""
    hint = f"the next backup makes it, or: scriptorium copy {backup.id} --to"
    return [f"the backup {backup.id} of {backup.library} has {one} ({hint} {one.store})" for one in backup.missing]


def _noticed(backup: Backup, manifest: Manifest | ScriptoriumError) -> list[str]:
    """The first warnings, then the checks of the library that found something. ``show`` has all of them."""
    if not isinstance(manifest, Manifest):
        return [f"the warnings of the backup could not be read: {manifest}"]
    lost = {f"{one.path}: {one.reason}" for one in manifest.unsaved}  # these are already reported
    warnings = [one for one in manifest.warnings if one not in lost]
    lines = [f"warning: {one}" for one in warnings[:_NAMES]]
    if len(warnings) > _NAMES:
        lines.append(f"and {len(warnings) - _NAMES:,} more warnings (scriptorium show {backup.id} lists them)")
    return lines + [
        f"{_kind(check)}: {check.name}: {check.cases(_NAMES)}"
        for check in manifest.checks
        if check.count or not check.good
    ]


def _kind(check: Check) -> str:
    return "check" if check.good else "warning"


def _not_saved(manifest: Manifest) -> Mapping[str, str]:
    """How much could not be saved; the first ones are named."""
    if not manifest.unsaved_count:
        return {}
    first = "; ".join(f"{one.path}: {one.reason}" for one in manifest.unsaved[:_NAMES_ON_A_PAGE])
    return {"not saved": f"{manifest.unsaved_count:,} ({first})"}
