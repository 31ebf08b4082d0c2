"""The report of each run, for people: a title, a summary, a table. Flows publish it as the artifact of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scriptorium import wording
from scriptorium.model import Check, Manifest
from scriptorium.requests import DatabaseBackupRequest, DatabaseRestoreRequest
from scriptorium.results import (
    NOTHING_COMPARED,
    BackupResult,
    DrillResult,
    ExportResult,
    PruneResult,
    RestoreResult,
    UndoResult,
    VerifyResult,
)

_NAMES = 20


@dataclass(frozen=True, slots=True)
class Report:
    """``kind`` and ``library`` identify the report; a newer one with the same two replaces it. ``rows``: their keys are
    the columns."""

    kind: str
    library: str
    title: str
    summary: Mapping[str, str]
    rows: Sequence[Mapping[str, str]] = ()


def markdown(report: Report) -> str:
    """The report as Markdown. Text from outside (names, messages) is escaped."""
    shown = wording.markdown
    lines = [f"# {shown(report.title)}", ""]
    lines += [f"- **{shown(name)}**: {shown(value)}" for name, value in report.summary.items()]
    if report.rows:
        columns = list(report.rows[0])
        lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(shown(row.get(column, '')) for column in columns)} |" for row in report.rows]
    return "\n".join(lines) + "\n"


def backup_report(result: BackupResult) -> Report:
    """The report on a backup: its size, its stores, what was not saved, and each part."""
    backup, manifest = result.backup, result.manifest
    content = sum(part.bytes for part in manifest.parts)
    summary = {
        "verdict": str(backup.status),
        "id": backup.id,
        "archive": f"{backup.copies[0].label} ({wording.size(backup.bytes)} from {wording.size(content)})",
        "stores": ", ".join(copy.store for copy in backup.copies),
        **{f"no copy in {store}": str(error) for store, error in result.failed.items()},
        **not_saved(manifest),
        "took": wording.duration(result.seconds),
        **{_checked(check): check.cases() for check in manifest.checks},
        "warnings": "; ".join(manifest.warnings[:_NAMES]) or "none",
    }
    rows = [
        {
            "part": part.source,
            "kind": part.kind,
            "files": f"{part.files:,}",
            "size": wording.size(part.bytes),
            "took": wording.duration((part.finished_at - part.started_at).total_seconds()),
            "rows": f"{sum(table.rows for table in part.tables.values()):,}" if part.tables else "",
            "how": part.method,
        }
        for part in manifest.parts
    ]
    return Report("backup", backup.library, f"Backup {backup.name} of {backup.library}", summary, rows)


def _checked(check: Check) -> str:
    return f"{'check' if check.good else 'warning'}: {check.name}"


def not_saved(manifest: Manifest) -> dict[str, str]:
    """How much could not be saved; the first ones are named."""
    if not manifest.unsaved_count:
        return {}
    first = "; ".join(f"{one.path}: {one.reason}" for one in manifest.unsaved[:_NAMES])
    return {"not saved": f"{manifest.unsaved_count:,} ({first})"}


def restore_report(result: RestoreResult) -> Report:
    """The report on a restore: what was compared, the safety backup, and each table."""
    restored = result.restored
    summary = {
        "verdict": "restored; every file has its recorded hash",
        "tables": restored.summary,
        "backup": result.backup,
        "from": result.store,
        "to": restored.place,
        "safety backup": _safety(result),
        "lacking": "; ".join(restored.lacking) or "nothing",
        "files": f"{restored.files:,} ({wording.size(restored.bytes)})",
        "took": wording.duration(result.seconds),
        "warnings": "; ".join(restored.warnings[:_NAMES]) or "none",
        **{f"preflight, {row.what}": row.found for row in result.preflight},
    }
    rows = [
        {"table": name, "rows": f"{table.rows:,}", "fingerprint": table.fingerprint[:24]}
        for name, table in sorted(restored.tables.items())
    ]
    return Report("restore", result.library, f"Restore of {result.backup}", summary, rows)


def undo_report(result: UndoResult) -> Report:
    """The report on the undo of a restore."""
    verdict = "the previous data is back" if result.compared else f"undone; {NOTHING_COMPARED}"
    summary = {"verdict": verdict, "undone": result.undone, "safety backup": _safety(result)}
    return Report("undo", result.library, f"Undo of the restore of {result.undone}", summary)


def _safety(result: RestoreResult | UndoResult) -> str:
    return "; ".join((result.safety.id, *result.safety_lacks)) if result.safety else "none"


def drill_report(result: DrillResult) -> Report:
    """The report on a drill: its verdict, what was compared and what was not, and each check."""
    backup, proof = result.backup, result.proof
    summary = {
        "verdict": wording.verdict(proof.verdict),
        "backup": f"{backup.name} ({backup.id})",
        "from": proof.store,
        "time to recover": wording.duration(proof.seconds),
        "age of the data": wording.duration(proof.age_seconds),
        "files compared": f"{proof.files:,} ({wording.size(proof.bytes)})",
        "tables compared": f"{proof.tables:,} with {proof.rows:,} rows",
        "not compared": "; ".join(proof.uncompared) or "none",
        "differences": "; ".join(proof.differences) or "none",
        **({"not kept": proof.unkept} if proof.unkept else {}),
    }
    rows = [
        {
            "check": check.name,
            "verdict": "good" if check.good else "broken",
            "cases": str(check.count),
            "first": ", ".join(check.first),
        }
        for check in proof.checks
    ]
    return Report("drill", backup.library, f"Drill of {backup.name}", summary, rows)


def verify_report(result: VerifyResult, library: str | None) -> Report:
    """The report on a verification: each copy with its verdict, and the copies that could not be read."""
    damaged = len(result.damaged)
    sound = ", ".join(sorted({one.verdict for one in result.checked})) or "sound"
    summary = {"verdict": f"{damaged} damaged" if damaged else sound, "copies read": str(len(result.checked))}
    if result.unread:
        summary["could not be read"] = "; ".join(f"{copy}: {error}" for copy, error in result.unread.items())
    rows = [
        {
            "backup": one.backup.name,
            "id": one.backup.id,
            "store": one.copy.store,
            "size": wording.size(one.copy.bytes),
            "took": wording.duration(one.verification.seconds),
            "verdict": one.verdict if one.verification.sound else "; ".join(one.verification.damage[:5]),
        }
        for one in result.checked
    ]
    return Report("verify", library or "all", "Verification of stored copies", summary, rows)


def prune_report(result: PruneResult, library: str | None) -> Report:
    """The report on a cleanup: what retention decided about each backup, and what was removed."""
    freed = sum(one.candidate.bytes for one in result.decisions if one.candidate.id in result.removed)
    summary = {
        "verdict": "dry run: nothing was removed" if result.dry_run else f"{len(result.removed)} removed",
        "kept": str(sum(decision.keep for decision in result.decisions)),
        "freed": wording.size(freed),
    }
    rows = [
        {
            "backup": decision.candidate.id,
            "taken": wording.utc(decision.candidate.created_at),
            "type": str(decision.candidate.type),
            "verdict": "keep" if decision.keep else "remove",
            "why": "; ".join(decision.reasons),
        }
        for decision in result.decisions
    ]
    return Report("prune", library or "all", "Retention", summary, rows)


def export_report(result: ExportResult) -> Report:
    """The report on an export of tables."""
    summary = {
        "backup": f"{result.name} ({result.backup})",
        "written to": result.output,
        "rows": f"{result.rows:,}",
        "size": wording.size(result.bytes),
    }
    rows = [{"table": one.table, "rows": f"{one.rows:,}", "size": wording.size(one.bytes)} for one in result.tables]
    return Report("export", result.library, f"Export of {result.name}", summary, rows)


def database_backup_report(request: DatabaseBackupRequest, size: int, seconds: float) -> Report:
    """The report on a database that was written to one file."""
    summary = {"file": request.file, "size": wording.size(size), "took": wording.duration(seconds)}
    return Report("database-backup", request.library or "database", "Database written to one file", summary)


def database_restore_report(request: DatabaseRestoreRequest, warnings: Sequence[str], seconds: float) -> Report:
    """The report on a database that was loaded from one file."""
    summary = {"file": request.file, "took": wording.duration(seconds)}
    if warnings:
        summary["warnings"] = "; ".join(warnings[:_NAMES])
    return Report("database-restore", request.library or "database", "Database loaded from one file", summary)
