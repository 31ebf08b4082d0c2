"""Commands that only show something, and small changes (pin, delete). They load no Prefect and answer at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium import wording
from scriptorium.cli.output import (
    catalog_of,
    command,
    confirm,
    current,
    every,
    manner,
    meant,
    put_json,
    put_pairs,
    say,
    table,
    warn_of_half_restores,
)
from scriptorium.errors import NotFound, ScriptoriumError
from scriptorium.model import Backup, Manifest
from scriptorium.progress import RunProgress
from scriptorium.report.details import (
    backup_rows,
    copy_rows,
    library_rows,
    part_rows,
    remark_lines,
    run_rows,
    show_document,
    store_rows,
    table_rows,
)
from scriptorium.report.documents import NOT_RECORDED, backup_row, list_document, proof_rows
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
        put_json(list_document(backups, {problem.store: problem.error for problem in listing.problems}))
        return
    now = datetime.now(UTC)
    spare = ["Recovery", "Drilled (UTC)", "Tier", "Stores", "Taken (UTC)", "Type"]
    if len({backup.library for backup in backups}) == 1:
        spare.insert(0, "Library")
    table([backup_row(backup, now) for backup in backups], right=("Size",), spare=spare)
    if any(backup.unrecorded for backup in backups):
        say(f"{NOT_RECORDED}: a backup without fingerprints of its database can be restored, but no drill can prove it")
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
        _show_run(run)  # a run that makes no backup, or the reference is Prefect's id of the run
        return
    run = run or progress_of(settings, backup.id)
    manifest = _manifest(catalog, backup)
    proofs = [proof for copy in backup.copies if (proof := catalog.proof(copy))]
    if manner.json:
        put_json(show_document(backup, manifest, proofs, run))
        return
    _show_backup(backup)
    if run is not None:
        put_pairs(progress_rows(run, datetime.now(UTC)))
    for proof in proofs:
        put_pairs(proof_rows(proof))
    if manifest is not None:
        _show_manifest(manifest)


def _show_run(run: RunProgress) -> None:
    if manner.json:
        put_json({"progress": progress_document(run)})
    put_pairs(run_rows(run, datetime.now(UTC)))


def _manifest(catalog: Catalog, backup: Backup) -> Manifest | None:
    for copy in backup.copies:
        try:
            return catalog.manifest(copy)
        except ScriptoriumError:
            continue  # the table of copies says what is wrong with this one
    return None


def _show_backup(backup: Backup) -> None:
    put_pairs(backup_rows(backup, datetime.now(UTC)))
    table(copy_rows(backup), right=("Size",))


def _show_manifest(manifest: Manifest) -> None:
    table(part_rows(manifest), right=("Files", "Size"))
    table(table_rows(manifest), right=("Rows",))
    for line in remark_lines(manifest):
        say(line)


@command(app, "stats", example="scriptorium stats --json")
def show_stats(library: Library = None) -> None:
    """Show how well the libraries are protected: counts, sizes, newest and oldest backup, free space of the stores."""
    from scriptorium.monitoring.statistics import stats

    settings = current()
    document = stats(settings, every(settings, library))
    if manner.json:
        put_json(document)
        return
    table(
        library_rows(document),
        right=("Backups", "Size", "Degraded", "Damaged", "No fingerprints"),
        spare=("Types", "Oldest", "Newest", "No fingerprints", "Degraded"),
    )
    table(store_rows(document), right=("Used", "Free"))


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
