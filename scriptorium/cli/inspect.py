"""Commands that only show something, and small changes (pin, delete). They load no Prefect and answer at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scriptorium import wording
from scriptorium.cli.output import (
    catalog_of,
    command,
    confirm,
    current,
    every,
    facts,
    manner,
    meant,
    put_json,
    say,
    table,
    warn_of_half_restores,
)
from scriptorium.errors import NotFound, ScriptoriumError
from scriptorium.model import PROVEN, Backup, Manifest
from scriptorium.progress import RunProgress
from scriptorium.report.documents import (
    NOT_RECORDED,
    Document,
    backup_document,
    backup_row,
    backup_status,
    proof_document,
    proof_rows,
)
from scriptorium.report.progress import progress_document, progress_rows
from scriptorium.words import BackupType

if TYPE_CHECKING:
    from scriptorium.catalog import Catalog

app = typer.Typer()

Library = Annotated[str | None, typer.Option("--library", "-l", metavar="L", help="A library of the settings.")]
Reference = Annotated[str, typer.Argument(metavar="ID", help="An id, 4 or more digits of it, a name, or 'latest'.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


@command(app, "list", example="scriptorium list --library bibliotheca --type full")
def list_backups(
    library: Library = None,
    type: Annotated[str | None, typer.Option("--type", "-t", metavar="T", help="full, data, database, config.")] = None,
    store: Annotated[str | None, typer.Option("--store", metavar="S", help="Only backups in this store.")] = None,
) -> None:
    """List the backups, newest first."""
    settings = current()
    chosen = every(settings, library)
    catalog = catalog_of(settings)
    warn_of_half_restores(settings)
    kind = BackupType.parse(type) if type else None
    listing = catalog.listing(library=chosen, type=kind, store=store)
    backups = listing.backups
    if manner.json:
        problems = [{"store": problem.store, "error": problem.error} for problem in listing.problems]
        put_json({"backups": [backup_document(backup) for backup in backups], "problems": problems})
        return
    now = datetime.now(UTC)
    spare = ["Recovery", "Drilled (UTC)", "Tier", "Stores", "Taken (UTC)", "Type"]
    if len({backup.library for backup in backups}) == 1:
        spare.insert(0, "Library")
    table([backup_row(backup, now) for backup in backups], right=("Size",), spare=spare)
    if any(backup.unrecorded for backup in backups):
        say(f"{NOT_RECORDED}: what its database held is not recorded; it can be restored, and no drill can prove it")
    total = sum(copy.bytes for backup in backups for copy in backup.copies)
    say(f"{len(backups)} backup{'s' if len(backups) != 1 else ''}, {wording.size(total)}")
    for problem in listing.problems:
        say(f"warning: the store {problem.store} could not be read: {problem.error}")


@command(app, "show", example="scriptorium show latest")
def show(reference: Reference, library: Library = None) -> None:
    """Show everything that is known about one backup, or how far a run is."""
    settings = current()
    catalog = catalog_of(settings)
    from scriptorium.catalog.run_progress import progress_of

    run = progress_of(settings, reference)
    try:
        backup = catalog.find(reference, library=meant(settings, library, reference))
    except NotFound:
        if run is None:
            raise
        _show_run(run)  # a run that makes no backup, or the id is the one that Prefect gave it
        return
    run = run or progress_of(settings, backup.id)
    manifest = _manifest(catalog, backup)
    if manner.json:
        document: Document = {**backup_document(backup), "manifest": None, "proofs": []}
        if run is not None:
            document["progress"] = progress_document(run)
        if manifest is not None:
            document["manifest"] = _as_json(manifest)
        document["proofs"] = [proof_document(proof) for copy in backup.copies if (proof := catalog.proof(copy))]
        put_json(document)
        return
    _show_backup(backup)
    if run is not None:
        facts(progress_rows(run, datetime.now(UTC)))
    for proof in (catalog.proof(copy) for copy in backup.copies):
        if proof is not None:
            facts(proof_rows(proof))
    if manifest is not None:
        _show_manifest(manifest)


def _show_run(run: RunProgress) -> None:
    if manner.json:
        put_json({"progress": progress_document(run)})
    facts({"run": run.run, "library": run.library, **progress_rows(run, datetime.now(UTC))})


def _manifest(catalog: Catalog, backup: Backup) -> Manifest | None:
    for copy in backup.copies:
        try:
            return catalog.manifest(copy)
        except ScriptoriumError:
            continue  # the table of copies says what is wrong with this one
    return None


def _as_json(manifest: Manifest) -> object:
    import json

    from scriptorium.manifest import dumps

    document = json.loads(dumps(manifest))
    document["files"] = {"count": manifest.files.count, "sha256": manifest.files.sha256}
    return document


def _show_backup(backup: Backup) -> None:
    pairs = {
        "id": backup.id,
        "name": backup.name,
        "library": backup.library,
        "type": f"{backup.type}, tier {backup.tier}",
        "taken": f"{wording.utc(backup.created_at)} UTC ({wording.age(backup.created_at, datetime.now(UTC))})",
        "status": backup_status(backup) + (", pinned" if backup.pinned else ""),
    }
    if backup.description:
        pairs["description"] = backup.description
    if backup.unrecorded:
        pairs[NOT_RECORDED] = f"of {', '.join(backup.unrecorded)}: it can be restored, and no drill can prove it"
    if backup.unsaved:
        pairs["not saved"] = f"{backup.unsaved:,} (see the warnings): a restore in place leaves them as they are"
    if backup.error:
        pairs["error"] = backup.error
    facts(pairs)
    rows = [
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
    table(rows, right=("Size",))


def _show_manifest(manifest: Manifest) -> None:
    rows = [
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
    table(rows, right=("Files", "Size"))
    tables = [
        {"Table": name, "Rows": f"{held.rows:,}", "Fingerprint": held.fingerprint}
        for part in manifest.parts
        for name, held in sorted((part.tables or {}).items())
        if held.rows
    ]
    table(tables, right=("Rows",))
    for check in manifest.checks:
        say(f"{'check' if check.good else 'warning'}: {check}")
    for warning in manifest.warnings:
        say(f"warning: {warning}")


@command(app, "stats", example="scriptorium stats --json")
def show_stats(library: Library = None) -> None:
    """Show how well the libraries are protected: counts, sizes, newest and oldest backup, free space of the stores."""
    from scriptorium.monitoring.statistics import stats

    settings = current()
    document = stats(settings, every(settings, library))
    if manner.json:
        put_json(document)
        return
    by_library = document["by_library"]
    assert isinstance(by_library, dict)
    table(
        [
            {
                "Library": name,
                "Backups": str(one["total_backups"]),
                "Size": wording.size(one["total_size_bytes"]),
                "Newest": _moment(one["newest_backup"], "never"),
                "Last good": _moment(one["last_success"], "never"),
                "Last proof": _moment(one["last_proof"], "never"),
                "Last drill": _drill(one["last_drill"]),
                "No fingerprints": str(one["unrecorded"]),
                "Oldest": _moment(one["oldest_backup"], ""),
                "Degraded": str(one["degraded"]),
                "Damaged": str(one["damaged"]),
                "Types": ", ".join(f"{kind} {count}" for kind, count in one["backup_types"].items()),
            }
            for name, one in by_library.items()
        ],
        right=("Backups", "Size", "Degraded", "Damaged", "No fingerprints"),
        spare=("Types", "Oldest", "Newest", "No fingerprints", "Degraded"),
    )
    storage = document["storage"]
    assert isinstance(storage, dict)
    table(
        [
            {
                "Store": name,
                "Kind": one["kind"],
                "Used": wording.size(one["used"]) if one["used"] is not None else "?",
                "Free": wording.size(one["free"]) if one["free"] is not None else "?",
            }
            for name, one in storage.items()
        ],
        right=("Used", "Free"),
    )


def _drill(found: dict[str, Any] | None) -> str:
    if found is None:
        return "never"
    took = wording.duration(found["recovery_seconds"])
    when = "" if found["verdict"] == PROVEN else f", {_moment(found['at'], '')}"  # a proof has its own column
    return f"{found['verdict']}, {took} from {found['store']}{when}"


def _moment(text: str | None, otherwise: str) -> str:
    return wording.utc(datetime.fromisoformat(text)) if text else otherwise


def _set_pin(reference: str, library: str | None, pinned: bool) -> None:
    from scriptorium.operations.verify import pin

    settings = current()
    backup = catalog_of(settings).find(reference, library=meant(settings, library, reference))
    pin(settings, backup, pinned=pinned)
    if manner.json:
        put_json({"id": backup.id, "pinned": pinned})
    say(f"{backup.id} is {'pinned: it is never pruned' if pinned else 'no longer pinned'}")


@command(app, "pin", example="scriptorium pin 3f2a")
def pin_backup(reference: Reference, library: Library = None) -> None:
    """Keep a backup for ever: it is never pruned and cannot be deleted."""
    _set_pin(reference, library, True)


@command(app, "unpin", example="scriptorium unpin 3f2a")
def unpin_backup(reference: Reference, library: Library = None) -> None:
    """Let retention decide about a backup again."""
    _set_pin(reference, library, False)


@command(app, "delete", example="scriptorium delete 3f2a --yes")
def delete_backup(reference: Reference, library: Library = None, yes: Yes = False) -> None:
    """Remove a backup from every store."""
    from scriptorium.operations.prune import delete

    settings = current()
    backup = catalog_of(settings).find(reference, library=meant(settings, library, reference))
    where = ", ".join(copy.store for copy in backup.copies) or "the records"
    confirm(f"Delete {backup.name} ({backup.id}, {wording.size(backup.bytes)}) from {where}?", yes=yes)
    delete(settings, backup)
    if manner.json:
        put_json({"id": backup.id, "deleted": True})
    say(f"deleted {backup.name} ({backup.id}) from {where}")
