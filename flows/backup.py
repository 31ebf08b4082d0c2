"""Take a backup: snapshot every source, archive, verify, upload to every store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from prefect import flow

from flows.runs import concluded, given, publish
from scriptorium import wording
from scriptorium.errors import ScriptoriumError
from scriptorium.model import Backup, BackupType, Compression, Copy, Manifest, Tier, Verification
from scriptorium.operations.backup import Order, finished, place_order, running, without_copies
from scriptorium.process import no_child_outlives
from scriptorium.settings import current
from scriptorium.umask import private_files
from tasks.archive import archive, verify_archive
from tasks.snapshot import snapshot
from tasks.stores import check_space, upload


def _name() -> str:
    said = given()
    tier = Tier.parse(said.get("tier", "manual"))
    return f"{tier} {said.get('type', current().type_of(tier))} backup of {said.get('library', 'the library')}"


@flow(name="backup", flow_run_name=_name, validate_parameters=True, persist_result=False)
def backup(
    library: str | None = None,
    type: str | None = None,
    tier: str = "manual",
    name: str = "",
    description: str = "",
    to: list[str] | None = None,
    compression: str | None = None,
) -> Backup:
    """Take a backup of a library and verify it.

    ``library``: a name from the settings (the only one when there is one). ``type``: full, data, database, config
    (the tier's own, else full).
    ``to``: stores by name (the tier's, else all). ``compression``: gzip, zstd, none (the settings' otherwise).
    """
    packing = Compression.parse(compression) if compression else None
    order = place_order(
        current(),
        library,
        BackupType.parse(type) if type else None,
        Tier.parse(tier),
        name=name,
        description=description,
        to=to or (),
        compression=packing,
    )
    result = take(order)
    return concluded(result, [result])


def take(order: Order) -> Backup:
    """The recipe."""
    began = time.monotonic()
    with no_child_outlives(), private_files(), running(current(), order) as folder:
        space = check_space(order)
        staged = [snapshot(order, source, folder, space) for source in order.sources]
        manifest = archive(order, staged, folder)
        verification = verify_archive(order, manifest, folder)
        copies, failed = _upload(order, manifest, verification, folder)
    result = finished(order, manifest, copies)
    _report(order, manifest, result, failed, time.monotonic() - began)
    if failed:
        raise without_copies(result, failed)
    return result


def _upload(
    order: Order, manifest: Manifest, verification: Verification, folder: Path
) -> tuple[list[Copy], dict[str, ScriptoriumError]]:
    """A copy into every store. One that fails does not stop the others; where every store fails, that is an error."""
    copies: list[Copy] = []
    failed: dict[str, ScriptoriumError] = {}
    for store in order.stores:
        try:
            copies.append(upload(order, manifest, verification, folder, store))
        except ScriptoriumError as error:
            failed[store] = error
    if not copies:
        raise next(iter(failed.values()))
    return copies, failed


def not_saved(manifest: Manifest) -> dict[str, str]:
    """What exists and could not be saved, the first by name."""
    if not manifest.unsaved_count:
        return {}
    first = "; ".join(f"{one.path}: {one.reason}" for one in manifest.unsaved[:20])
    return {"not saved": f"{manifest.unsaved_count:,} ({first})"}


def _report(
    order: Order, manifest: Manifest, result: Backup, failed: Mapping[str, ScriptoriumError], seconds: float
) -> None:
    content = sum(part.bytes for part in manifest.parts)
    summary = {
        "verdict": str(result.status),
        "id": result.id,
        "archive": f"{order.archive} ({wording.size(result.bytes)} from {wording.size(content)})",
        "stores": ", ".join(copy.store for copy in result.copies),
        **{f"no copy in {store}": str(error) for store, error in failed.items()},
        **not_saved(manifest),
        "took": wording.duration(seconds),
        **{f"{'check' if check.good else 'warning'}: {check.name}": check.cases() for check in manifest.checks},
        "warnings": "; ".join(manifest.warnings[:20]) or "none",
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
    publish("backup", order.library, f"Backup {result.name} of {order.library}", summary, rows)
