"""One backup in every detail, and the figures of all backups, as rows and documents for `show`, `stats` and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from scriptorium import wording
from scriptorium.model import PROVEN, Backup, Manifest, Proof
from scriptorium.progress import RunProgress
from scriptorium.report.documents import NOT_RECORDED, Document, backup_document, backup_status, proof_document
from scriptorium.report.progress import progress_document, progress_rows

Rows = list[Mapping[str, str]]


def show_document(
    backup: Backup, manifest: Manifest | None, proofs: Sequence[Proof], run: RunProgress | None
) -> Document:
    """Everything that is known about one backup; of its manifest without the list of files."""
    document: Document = {**backup_document(backup), "manifest": None, "proofs": []}
    if run is not None:
        document["progress"] = progress_document(run)
    if manifest is not None:
        document["manifest"] = _manifest_document(manifest)
    document["proofs"] = [proof_document(proof) for proof in proofs]
    return document


def _manifest_document(manifest: Manifest) -> Document:
    import json

    from scriptorium.manifest import dumps

    document: Document = json.loads(dumps(manifest))
    document["files"] = {"count": manifest.files.count, "sha256": manifest.files.sha256}
    return document


def run_rows(run: RunProgress, now: datetime) -> Mapping[str, str]:
    """A run that makes no backup."""
    return {"run": run.run, "library": run.library, **progress_rows(run, now)}


def backup_rows(backup: Backup, now: datetime) -> Mapping[str, str]:
    """One backup as lines for people."""
    pairs = {
        "id": backup.id,
        "name": backup.name,
        "library": backup.library,
        "type": f"{backup.type}, tier {backup.tier}",
        "taken": f"{wording.utc(backup.created_at)} UTC ({wording.age(backup.created_at, now)})",
        "status": backup_status(backup) + (", pinned" if backup.pinned else ""),
    }
    if backup.description:
        pairs["description"] = backup.description
    if backup.unrecorded:
        pairs[NOT_RECORDED] = f"of {', '.join(backup.unrecorded)}: it can be restored, but no drill can prove it"
    if backup.unsaved:
        pairs["not saved"] = f"{backup.unsaved:,} (see the warnings): a restore in place does not change them"
    if backup.error:
        pairs["error"] = backup.error
    return pairs


def copy_rows(backup: Backup) -> Rows:
    """The copies of a backup."""
    return [
        {
            "Store": copy.store,
            "Copy": copy.key,
            "Size": wording.size(copy.bytes),
            "Status": str(copy.status),
            "Verified (UTC)": wording.utc(copy.verified_at) if copy.verified_at else "never",
            "Proven (UTC)": wording.utc(copy.proven_at) if copy.proven_at else "never",
            "Damage": "; ".join(copy.damage),
        }
        for copy in backup.copies
    ]


def part_rows(manifest: Manifest) -> Rows:
    """The parts of a backup."""
    return [
        {
            "Part": part.source,
            "Kind": part.kind,
            "Path": part.path or "(top)",
            "Files": f"{part.files:,}",
            "Size": wording.size(part.bytes),
            "How": part.method,
        }
        for part in manifest.parts
    ]


def table_rows(manifest: Manifest) -> Rows:
    """The tables of a backup that have rows."""
    return [
        {"Table": name, "Rows": f"{held.rows:,}", "Fingerprint": held.fingerprint}
        for part in manifest.parts
        for name, held in sorted((part.tables or {}).items())
        if held.rows
    ]


def remark_lines(manifest: Manifest) -> list[str]:
    """What the checks of a backup found, and its warnings."""
    checks = [f"{'check' if check.good else 'warning'}: {check}" for check in manifest.checks]
    return [*checks, *(f"warning: {warning}" for warning in manifest.warnings)]


def library_rows(figures: Mapping[str, Any]) -> Rows:
    """The figures of each library, from the document of ``stats``."""
    return [
        {
            "Library": name,
            "Backups": str(one["total_backups"]),
            "Size": wording.size(one["total_size_bytes"]),
            "Newest": _time(one["newest_backup"], "never"),
            "Last good": _time(one["last_success"], "never"),
            "Last proof": _time(one["last_proof"], "never"),
            "Last drill": _drill(one["last_drill"]),
            "No fingerprints": str(one["unrecorded"]),
            "Oldest": _time(one["oldest_backup"], ""),
            "Degraded": str(one["degraded"]),
            "Damaged": str(one["damaged"]),
            "Types": ", ".join(f"{kind} {count}" for kind, count in one["backup_types"].items()),
        }
        for name, one in figures["by_library"].items()
    ]


def store_rows(figures: Mapping[str, Any]) -> Rows:
    """The space of each store, from the same document."""
    return [
        {
            "Store": name,
            "Kind": one["kind"],
            "Used": wording.size(one["used"]) if one["used"] is not None else "?",
            "Free": wording.size(one["free"]) if one["free"] is not None else "?",
        }
        for name, one in figures["storage"].items()
    ]


def _drill(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "never"
    took = wording.duration(found["recovery_seconds"])
    when = "" if found["verdict"] == PROVEN else f", {_time(found['at'], '')}"  # a proof has its own column
    return f"{found['verdict']}, {took} from {found['store']}{when}"


def _time(text: str | None, otherwise: str) -> str:
    return wording.utc(datetime.fromisoformat(text)) if text else otherwise
