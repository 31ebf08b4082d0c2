"""Everything that is known about one backup, or how far a run is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from scriptorium import wording
from scriptorium.model import Backup, Manifest, Proof
from scriptorium.progress import RunProgress
from scriptorium.report.backups import NOT_RECORDED, backup_document, backup_status
from scriptorium.report.drill import proof_document, proof_fields
from scriptorium.report.progress import progress_document, progress_rows
from scriptorium.report.report import Document, Fields, Report, Row, Table


def show_report(
    backup: Backup,
    manifest: Manifest | None,
    proofs: Sequence[Proof],
    run: RunProgress | None,
    now: datetime,
    locks: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """The report on one backup: its copies, its proofs, and what its manifest says. ``run``: the run that made it.
    ``locks``: until when stores lock their copies."""
    document: Document = {**backup_document(backup), "manifest": None, "proofs": [], "locks": dict(locks)}
    if run is not None:
        document["progress"] = progress_document(run)
    if manifest is not None:
        document["manifest"] = manifest_document(manifest)
    document["proofs"] = [proof_document(proof) for proof in proofs]
    blocks: list[Fields | Table] = [
        Fields({**_backup_fields(backup, now), **_encryption(manifest)}),
        Table(copy_rows(backup, locks), right=("Size",)),
    ]
    if run is not None:
        blocks.append(Fields(progress_rows(run, now)))
    blocks += [Fields(proof_fields(proof)) for proof in proofs]
    notes: list[str] = []
    if manifest is not None:
        blocks += [part_table(manifest), Table(_table_rows(manifest), right=("Rows",))]
        notes += [f"{'check' if check.good else 'warning'}: {check}" for check in manifest.checks]
        notes += [f"warning: {warning}" for warning in manifest.warnings]
    return Report("show", backup.library, f"Backup {backup.name}", document=document, blocks=blocks, notes=notes)


def run_report(run: RunProgress, now: datetime) -> Report:
    """The report on a run, which need not make a backup."""
    pairs = {"run": run.run, "library": run.library, **progress_rows(run, now)}
    document = {"progress": progress_document(run)}
    return Report("run", run.library, f"Run {run.run}", document=document, blocks=(Fields(pairs),))


def manifest_document(manifest: Manifest) -> object:
    """The manifest as it is written, with the number of its files in place of their list."""
    from scriptorium.manifest import dumps

    document = json.loads(dumps(manifest))
    document["files"] = {"count": manifest.files.count, "sha256": manifest.files.sha256}
    return document


def _backup_fields(backup: Backup, now: datetime) -> Mapping[str, str]:
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
    for one in backup.missing:
        pairs[f"no copy in {one.store}"] = one.reason or "the run was cut short"
    if backup.error:
        pairs["error"] = backup.error
    return pairs


def _encryption(manifest: Manifest | None) -> Mapping[str, str]:
    """Whose keys open the copy that the manifest was read with."""
    recipients = manifest.archive.recipients if manifest is not None and manifest.archive is not None else ()
    return {"encrypted for": ", ".join(recipients)} if recipients else {}


def copy_rows(backup: Backup, locks: Mapping[str, str]) -> list[Row]:
    """The copies of a backup; ``locks``: until when stores lock theirs, where one does."""
    return [
        {
            "Store": copy.store,
            "Copy": copy.key,
            "Size": wording.size(copy.bytes),
            "Status": str(copy.status),
            "Verified (UTC)": wording.utc(copy.verified_at) if copy.verified_at else "never",
            "Proven (UTC)": wording.utc(copy.proven_at) if copy.proven_at else "never",
            **({"Locked": locks.get(copy.store, "")} if locks else {}),
            "Damage": "; ".join(copy.damage),
        }
        for copy in backup.copies
    ]


def part_table(manifest: Manifest) -> Table:
    """The parts of a backup."""
    rows = [
        {
            "Part": part.source,
            "Kind": part.kind,
            "Path": part.path or "(top)",
            "Files": f"{part.files:,}",
            "Size": wording.size(part.bytes),
            "Rows": f"{sum(table.rows for table in part.tables.values()):,}" if part.tables else "",
            "Took": wording.duration((part.finished_at - part.started_at).total_seconds()),
            "How": part.method,
        }
        for part in manifest.parts
    ]
    return Table(rows, right=("Files", "Size", "Rows", "Took"), spare=("Took", "Rows"))


def _table_rows(manifest: Manifest) -> list[Row]:
    return [
        {"Table": name, "Rows": f"{held.rows:,}", "Fingerprint": held.fingerprint}
        for part in manifest.parts
        for name, held in sorted((part.tables or {}).items())
        if held.rows
    ]
