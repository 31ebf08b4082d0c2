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
    meant,
    present,
    warn_of_half_restores,
)
from scriptorium.cli.store_url import StoreUrl, chosen, meant_library
from scriptorium.errors import NotFound, ScriptoriumError
from scriptorium.model import Backup, Manifest
from scriptorium.report.backups import delete_report, list_report, pin_report, places
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
    store: Annotated[
        str | None, typer.Option("--store", metavar="S", help="Only backups in this store; its name, or its URL.")
    ] = None,
) -> None:
    """List the backups, newest first."""
    settings, store = chosen(store)
    of_library = every(settings, library) if settings.libraries else library
    catalog = catalog_of(settings)
    warn_of_half_restores(settings)
    kind = BackupType.parse(type) if type else None
    present(list_report(catalog.listing(library=of_library, type=kind, store=store), datetime.now(UTC)))


@command(app, "show", example="scriptorium show latest")
def show(reference: Reference, library: Library = None, url: StoreUrl = None) -> None:
    """Show everything that is known about one backup, or how far a run is."""
    settings, _ = chosen(url)
    catalog = catalog_of(settings)
    from scriptorium.catalog.run_progress import progress_of
    from scriptorium.report.show import run_report, show_report

    now = datetime.now(UTC)
    run = progress_of(settings, reference)
    try:
        backup = catalog.find(reference, library=meant_library(settings, library, reference))
    except NotFound:
        if run is None:
            raise
        present(run_report(run, now))  # a run that makes no backup, or the id is the one that Prefect gave it
        return
    run = run or progress_of(settings, backup.id)
    proofs = [proof for copy in backup.copies if (proof := catalog.proof(copy))]
    from scriptorium.operations.locks import locks_of

    locks = {store: str(lock) for store, lock in locks_of(settings, backup).items()}
    present(show_report(backup, _manifest(catalog, backup), proofs, run, now, locks))


def _manifest(catalog: Catalog, backup: Backup) -> Manifest | None:
    for copy in backup.copies:
        try:
            return catalog.manifest(copy)
        except ScriptoriumError:
            continue  # the table of copies says what is wrong with this one
    return None


@command(app, "stats", example="scriptorium stats --json")
def show_stats(library: Library = None) -> None:
    """Show how well the libraries are protected: counts, sizes, newest and oldest backup, free space of the stores."""
    from scriptorium.monitoring.statistics import stats
    from scriptorium.report.statistics import statistics_report

    settings = current()
    present(statistics_report(stats(settings, every(settings, library))))


def _set_pin(reference: str, library: str | None, pinned: bool) -> None:
    from scriptorium.operations.pin import pin
    from scriptorium.requests import PinRequest

    settings = current()
    request = PinRequest(reference=reference, library=meant(settings, library, reference), pinned=pinned)
    present(pin_report(pin(settings, request), pinned))


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
    from scriptorium.operations.decided import decided
    from scriptorium.operations.prune import delete, plan_delete
    from scriptorium.requests import DeleteRequest

    settings = current()
    plan = plan_delete(settings, DeleteRequest(reference=reference, library=meant(settings, library, reference)))
    backup = plan.backup
    confirm(f"Delete {backup.name} ({backup.id}, {wording.size(backup.bytes)}) from {places(backup)}?", yes=yes)
    request = DeleteRequest(reference=backup.id, library=backup.library)  # no other one, however long the answer took
    with decided(request, plan):
        present(delete_report(delete(settings, request)))
