"""Records as JSON documents and table rows: the one place that decides how a result is shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.model import PROVEN, Backup, Check, Copy, Health, Proof

if TYPE_CHECKING:
    from scriptorium.results import AdoptOutcome, Checked, ExportResult, PreflightRow, Restored, UndoResult
    from scriptorium.retention import Decision

Document = dict[str, object]
NOT_RECORDED = "no fingerprints"


def failure_document(library: str, what: str, hint: str, code: int) -> dict[str, str | int]:
    """A library that could not be backed up, among the backups of the others."""
    return {"library": library, "error": what, "hint": hint, "exit_code": code}


def _time(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def backup_document(backup: Backup) -> Document:
    return {
        "id": backup.id,
        "name": backup.name,
        "library": backup.library,
        "type": str(backup.type),
        "tier": str(backup.tier),
        "status": str(backup.status),
        "created_at": _time(backup.created_at),
        "description": backup.description,
        "bytes": backup.bytes,
        "pinned": backup.pinned,
        "parts": list(backup.parts),
        "warnings": backup.warnings,
        "unrecorded": list(backup.unrecorded),
        "unsaved": backup.unsaved,
        "error": backup.error,
        "copies": [copy_document(copy) for copy in backup.copies],
    }


def list_document(backups: Sequence[Backup], problems: Mapping[str, str]) -> Document:
    """The backups, and the stores that could not be read, each with the error."""
    return {
        "backups": [backup_document(backup) for backup in backups],
        "problems": [{"store": store, "error": error} for store, error in problems.items()],
    }


def taken_rows(backup: Backup, places: Sequence[str]) -> Mapping[str, str]:
    """A backup that was just taken. ``places``: where a person finds its copies."""
    return {
        "backup": f"{backup.name} of {backup.library}",
        "id": backup.id,
        "status": str(backup.status),
        "size": wording.size(backup.bytes),
        "copies": ", ".join(places),
    }


def copy_document(copy: Copy) -> Document:
    return {
        "store": copy.store,
        "key": copy.key,
        "bytes": copy.bytes,
        "status": str(copy.status),
        "verified_at": _time(copy.verified_at),
        "proven_at": _time(copy.proven_at),
        "drilled_at": _time(copy.drilled_at),
        "verdict": copy.verdict,
        "recovery_seconds": copy.recovery_seconds,
        "damage": list(copy.damage),
    }


def backup_status(backup: Backup) -> str:
    """Its status, and whether its database has no fingerprints, so that no drill can prove it."""
    return f"{backup.status}, {NOT_RECORDED}" if backup.unrecorded and backup.status.good else str(backup.status)


def _drilled(drill: Copy | None) -> str:
    if drill is None or drill.drilled_at is None:
        return ""
    suffix = "" if drill.verdict == PROVEN else f" {drill.verdict}"
    return f"{wording.utc(drill.drilled_at)}{suffix}"


def backup_row(backup: Backup, now: datetime) -> Mapping[str, str]:
    drill = backup.last_drill
    return {
        "ID": backup.id,
        "Name": backup.name,
        "Library": backup.library,
        "Type": str(backup.type),
        "Tier": str(backup.tier),
        "Taken (UTC)": wording.utc(backup.created_at),
        "Age": wording.age(backup.created_at, now),
        "Size": wording.size(backup.bytes) if backup.copies else "",
        "Status": backup_status(backup) + (" pinned" if backup.pinned else ""),
        "Drilled (UTC)": _drilled(drill),
        "Recovery": wording.duration(drill.recovery_seconds) if drill and drill.recovery_seconds is not None else "",
        "Stores": ", ".join(copy.store for copy in backup.copies),
    }


def decision_document(decision: Decision) -> Document:
    one = decision.candidate
    return {
        "id": one.id,
        "library": one.library,
        "type": str(one.type),
        "tier": str(one.tier),
        "created_at": _time(one.created_at),
        "bytes": one.bytes,
        "keep": decision.keep,
        "reasons": list(decision.reasons),
    }


def prune_document(decisions: Sequence[Decision], removed: Sequence[str], *, dry_run: bool) -> Document:
    """What retention decided about each backup, and the ids that were removed."""
    return {
        "dry_run": dry_run,
        "decisions": [decision_document(decision) for decision in decisions],
        "removed": list(removed),
    }


def decision_rows(decisions: Sequence[Decision]) -> list[Mapping[str, str]]:
    return [
        {
            "ID": decision.candidate.id,
            "Taken (UTC)": wording.utc(decision.candidate.created_at),
            "Type": str(decision.candidate.type),
            "Tier": str(decision.candidate.tier),
            "Size": wording.size(decision.candidate.bytes),
            "Verdict": "keep" if decision.keep else "remove",
            "Why": "; ".join(decision.reasons),
        }
        for decision in decisions
    ]


def check_document(check: Check) -> Document:
    return {"name": check.name, "good": check.good, "count": check.count, "first": list(check.first)}


def proof_document(proof: Proof) -> Document:
    return {
        "at": _time(proof.at),
        "store": proof.store,
        "proven": proof.proven,
        "verdict": proof.verdict,
        "seconds": proof.seconds,
        "age_seconds": proof.age_seconds,
        "files": proof.files,
        "bytes": proof.bytes,
        "tables": proof.tables,
        "rows": proof.rows,
        "checks": [check_document(check) for check in proof.checks],
        "differences": list(proof.differences),
        "uncompared": list(proof.uncompared),
        "before": list(proof.before),
        "kept": not proof.unkept,
    }


def proof_rows(proof: Proof) -> Mapping[str, str]:
    """A proof as rows for people."""
    pairs = {
        "verdict": wording.verdict(proof.verdict),
        "drilled": f"{wording.utc(proof.at)} UTC, from {proof.store}",
        "time to recover": wording.duration(proof.seconds),
        "age of the data": wording.duration(proof.age_seconds),
        "compared": f"{proof.files:,} files ({wording.size(proof.bytes)}), {proof.tables} tables, {proof.rows:,} rows",
    }
    if proof.uncompared:
        pairs["not compared"] = "; ".join(proof.uncompared)
    if proof.unkept:
        pairs["not kept"] = proof.unkept
    if proof.differences:
        pairs["differences"] = "; ".join(proof.differences)
    if proof.before and proof.before != proof.differences:
        pairs["differences in the first attempt"] = "; ".join(proof.before)
    return pairs | {f"check {number}": str(check) for number, check in enumerate(proof.checks, 1)}


def preflight_rows(rows: Sequence[PreflightRow]) -> list[Mapping[str, str]]:
    """The rows of a preflight, for people and programs alike."""
    return [
        {"Looked at": row.what, "Found": row.found, "In the way": row.trouble.exact if row.trouble else ""}
        for row in rows
    ]


def preflight_document(backup: str, rows: Sequence[PreflightRow]) -> Document:
    """A preflight after which nothing is done."""
    return {"dry_run": True, "id": backup, "plan": preflight_rows(rows)}


def undo_document(result: UndoResult, *, cut_short: bool) -> Document:
    """The undo of a restore. ``cut_short``: the restore had not come to its end."""
    return {
        "library": result.library,
        "undone": result.undone,
        "cut_short": cut_short,
        "compared": result.compared,
    }


def undo_line(result: UndoResult, *, cut_short: bool) -> str:
    """The same in one line for people."""
    from scriptorium.results import NOTHING_COMPARED

    undone = result.undone
    if not result.compared:
        return f"a restore of {undone} was cut short, and was undone; {NOTHING_COMPARED}"
    if cut_short:
        return f"a restore of {undone} was cut short; the previous data of {result.library} is back"
    return f"the previous data of {result.library} is back; the restore of {undone} is undone"


def restore_document(backup: str, library: str, store: str, restored: Restored) -> Document:
    tables = {name: {"rows": held.rows, "fingerprint": held.fingerprint} for name, held in restored.tables.items()}
    return {
        "id": backup,
        "library": library,
        "store": store,
        "place": restored.place,
        "files": restored.files,
        "bytes": restored.bytes,
        "parts": list(restored.parts),
        "warnings": [*restored.lacking, *restored.warnings],
        "tables": tables,
        "not_compared": dict(restored.comparison.not_compared),
    }


def restore_rows(backup: str, library: str, store: str, restored: Restored) -> Mapping[str, str]:
    """A restore as rows for people."""
    return {
        "restored": f"{backup} of {library} from {store}",
        "to": restored.place,
        "files": f"{restored.files:,} ({wording.size(restored.bytes)}), each equal to its recorded hash",
        "tables": restored.summary,
    }


def checked_document(one: Checked) -> Document:
    """A copy that was read back."""
    known = str(one.copy.status) if one.share else "verified"  # a sound share does not prove the rest
    return {
        "id": one.backup.id,
        **copy_document(one.copy),
        **({"share": one.share} if one.share else {}),
        "status": known if one.verification.sound else "damaged",
        "sound": one.verification.sound,
        "damage": list(one.verification.damage),
        "seconds": round(one.verification.seconds, 3),
        "verified_at": one.verification.at.isoformat(),
    }


def verify_document(checked: Sequence[Checked]) -> Document:
    """The copies that were read back, and how many of them are damaged."""
    damaged = sum(not one.verification.sound for one in checked)
    return {"checked": [checked_document(one) for one in checked], "damaged": damaged}


def checked_row(one: Checked) -> Mapping[str, str | tuple[str, ...]]:
    return {
        "ID": one.backup.id,
        "Name": one.backup.name,
        "Store": one.copy.store,
        "Size": wording.size(one.copy.bytes),
        "Took": wording.duration(one.verification.seconds),
        "Verdict": one.verdict if one.verification.sound else tuple(one.verification.damage[:10]),
    }


def export_document(result: ExportResult) -> Document:
    """The files that an export wrote."""
    files = [
        {"source": one.source, "table": one.table, "path": one.path, "rows": one.rows, "bytes": one.bytes}
        for one in result.tables
    ]
    return {
        "backup": result.backup,
        "format": str(result.format),
        "output": result.output,
        "files": files,
        "without_rows": list(result.without_rows),
    }


def export_rows(result: ExportResult) -> list[Mapping[str, str]]:
    """The same as rows for people."""
    return [
        {
            "Table": one.table,
            "Rows": f"{one.rows:,}",
            "Size": wording.size(one.bytes),
            "File": os.path.relpath(one.path),
        }
        for one in result.tables
    ]


def adopt_document(outcomes: Sequence[AdoptOutcome], leaving: Sequence[str]) -> Document:
    """What became of each file that was to be adopted. ``leaving``: the ids that the next cleanup would remove."""
    failed = sum(one.error is not None for one in outcomes)
    return {"files": [_adopted_document(one, leaving) for one in outcomes], "failed": failed}


def _adopted_document(outcome: AdoptOutcome, leaving: Sequence[str]) -> Document:
    if outcome.adopted is None:
        error = outcome.error
        return {"file": str(outcome.file), "error": error.exact if error else "", "hint": error.hint if error else ""}
    return {
        "file": str(outcome.file),
        "already": outcome.adopted.already,
        "warnings": list(outcome.adopted.warnings),
        "leaving": outcome.adopted.backup.id in leaving,
        "backup": backup_document(outcome.adopted.backup),
    }


def adopt_line(outcome: AdoptOutcome, *, with_warning: bool) -> str:
    """The same in one line for people. ``with_warning``: also what warns of it, in short."""
    if outcome.adopted is None:
        hint = f" ({outcome.error.hint})" if outcome.error and outcome.error.hint else ""
        return f"{outcome.file.name}: not adopted: {outcome.error}{hint}"
    backup, found = outcome.adopted.backup, outcome.adopted.warnings
    if outcome.adopted.already:
        return f"{outcome.file.name}: already adopted as {backup.id}"
    what = f"{backup.type}, taken {wording.utc(backup.created_at)} UTC, {wording.size(backup.bytes)}"
    many = f"; {len(found)} warnings (scriptorium show {backup.id})" if len(found) > 1 and with_warning else ""
    many = f"; warning: {found[0]}" if len(found) == 1 and with_warning else many
    return f"{outcome.file.name}: adopted as {backup.id} ({what}){many}"


def health_document(health: Health) -> Document:
    """What a check of a database found."""
    findings = [{"verdict": one.verdict, "subject": one.subject, "detail": one.detail} for one in health.findings]
    return {"sound": health.sound, "facts": health.properties, "findings": findings}


def finding_rows(health: Health) -> list[Mapping[str, str]]:
    """What is wrong with it, as rows for people."""
    return [{"Wrong": one.verdict, "What": one.subject, "Detail": one.detail} for one in health.findings]
