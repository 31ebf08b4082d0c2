"""``restore``, its preflight, and its undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium.cli.inspect import Library, Yes
from scriptorium.cli.output import command, confirm, current, manner, present, show
from scriptorium.cli.run_flow import carried_out, flow_runs
from scriptorium.cli.store_url import Identity, PasswordFile, StoreUrl, meant_library
from scriptorium.errors import UsageError
from scriptorium.report.restore import preflight_report, restore_report, undo_report

if TYPE_CHECKING:
    from scriptorium.operations.restore import RestorePlan
    from scriptorium.requests import RestoreRequest
    from scriptorium.restore import Preflight

app = typer.Typer()


Chosen = Annotated[str | None, typer.Argument(metavar="ID", help="An id, 4 or more digits of it, a name, or 'latest'.")]
Folder = Annotated[
    Path | None, typer.Option("--restore-path", metavar="DIR", help="Into this folder, not over the living data.")
]
Database = Annotated[str, typer.Option("--database", metavar="NAME", help="One database, as a new one with this name.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="GLOB", help="Only these paths, or a source by its name.")
]
Store = Annotated[str | None, typer.Option("--from", metavar="STORE", help="Read this store's copy.")]
Clean = Annotated[bool, typer.Option("--clean", help="DIR is replaced; in place: PostgreSQL in one transaction.")]
WithoutRoles = Annotated[
    bool, typer.Option("--without-roles", help="Also if roles or tablespaces are missing on the server.")
]
WithoutBrokenConstraints = Annotated[
    bool, typer.Option("--without-broken-constraints", help="PostgreSQL: load all rows, also those that break one.")
]
Rebuild = Annotated[bool, typer.Option("--from-export", help="Make Kuzu databases from their Parquet export.")]
Owner = Annotated[
    str | None,
    typer.Option("--owner", metavar="keep|me|UID:GID", help="Whom files belong to; without: keep if root, else me."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan; do nothing.")]
Undo = Annotated[bool, typer.Option("--undo", help="Put back what the last restore in place replaced.")]
NoSafety = Annotated[
    bool, typer.Option("--no-safety", help="In place: without a safety backup (for data that cannot be read).")
]
# What chooses a backup or a way to restore it: the field of the request, and how it is written.
_CHOICES = {
    "reference": "ID",
    "path": "--restore-path",
    "database": "--database",
    "only": "--only",
    "store": "--from",
    "clean": "--clean",
    "without_roles": "--without-roles",
    "without_broken_constraints": "--without-broken-constraints",
    "rebuild": "--from-export",
    "owner": "--owner",
}


@command(app, "restore", example="scriptorium restore latest --restore-path /tmp/look")
def restore(
    reference: Chosen = None,
    path: Folder = None,
    database: Database = "",
    only: Only = None,
    store: Store = None,
    clean: Clean = False,
    without_roles: WithoutRoles = False,
    without_broken_constraints: WithoutBrokenConstraints = False,
    rebuild: Rebuild = False,
    owner: Owner = None,
    url: StoreUrl = None,
    password_file: PasswordFile = None,
    identity: Identity = None,
    dry_run: DryRun = False,
    undo: Undo = False,
    no_safety: NoSafety = False,
    library: Library = None,
    yes: Yes = False,
) -> None:
    """Restore a backup: into a folder, or over the living data (a safety backup is taken first)."""
    given = locals()
    choices = {field: given[field] for field in _CHOICES}
    if undo:
        _require_alone([_CHOICES[field] for field, value in choices.items() if value])
        if dry_run:
            _show_undo_preflight(library)
        else:
            _undo(library, yes, no_safety)
        return
    if reference is None:
        raise UsageError("name the backup to restore", hint="scriptorium restore latest --restore-path DIR")
    from scriptorium.requests import RestoreRequest

    if url is not None:
        _use_store(url, path, password_file, identity)
    elif password_file or identity:
        raise UsageError("--password-file and --identity go with --store URL")
    the_library = meant_library(current(), library, reference)
    request = RestoreRequest(library=the_library, safety=not no_safety, **choices)
    _restore(request, dry_run=dry_run, yes=yes)


def _use_store(url: str, path: Path | None, password_file: Path | None, identity: Path | None) -> None:
    """Read from this store, without settings."""
    from scriptorium.operations.bare_store import use_store_at

    if path is None:
        raise UsageError(
            "--store URL restores into a folder: it is not known where the living data belongs",
            hint="--restore-path DIR; in place: scriptorium catalog rebuild --store URL --write-settings FILE, "
            "change its paths, then scriptorium --config FILE restore",
        )
    use_store_at(url, password_file=password_file, identity=identity)


def _require_alone(options: Sequence[str]) -> None:
    """``UsageError`` for options that choose a backup or a way to restore it: ``--undo`` ignores them."""
    if options:
        raise UsageError(
            f"--undo undoes the whole last restore; it takes no {', '.join(options)}",
            hint="it can be combined with --library, --dry-run, --no-safety and --yes",
        )


def _restore(request: RestoreRequest, *, dry_run: bool, yes: bool) -> None:
    from scriptorium.operations.decided import decided
    from scriptorium.operations.restore import plan_restore

    plan = plan_restore(current(), request, thorough=dry_run)
    if dry_run:
        _show_preflight(plan.preflight, plan.backup, plan.library)
        return
    _show_before_confirmation(plan)
    if plan.in_place:
        confirm(f"Replace the living data of {plan.library} by backup {plan.backup}?", yes=yes)
    elif request.clean and request.path is not None and Path(request.path).exists():
        confirm(f"Replace everything in {request.path}?", yes=yes)
    with flow_runs(), decided(plan.request, plan):
        from flows.restore import restore as flow

        result = carried_out(flow, **plan.request.parameters())
    present(restore_report(result))


def _show_before_confirmation(plan: RestorePlan) -> None:
    """Show the preflight to people before the confirmation. With ``--json`` and ``--quiet`` only the flow's report
    has it."""
    if manner.json or manner.quiet:
        return
    show(replace(preflight_report(plan.backup, plan.library, plan.preflight.rows), verdict=""))
    plan.preflight.require()


def _show_undo_preflight(library: str | None) -> None:
    from scriptorium.operations.undo import plan_undo, preflight_undo
    from scriptorium.requests import UndoRequest

    settings = current()
    plan = plan_undo(settings, UndoRequest(library=library))
    _show_preflight(preflight_undo(settings, plan), plan.backup, plan.library)


def _show_preflight(preflight: Preflight, backup: str, library: str) -> None:
    """Show the rows of a dry run. The first problem is an error."""
    present(preflight_report(backup, library, preflight.rows))
    preflight.require()


def _undo(library: str | None, yes: bool, no_safety: bool) -> None:
    from scriptorium.operations.undo import check_undo, plan_undo
    from scriptorium.requests import UndoRequest

    settings = current()
    plan = check_undo(settings, plan_undo(settings, UndoRequest(library=library, safety=not no_safety)))
    request = UndoRequest(library=plan.library, safety=not no_safety)
    confirm(f"Undo the restore of {plan.backup}, and put the previous data of {plan.library} back?", yes=yes)
    with flow_runs():
        from flows.restore import undo as flow

        result = carried_out(flow, **request.parameters())
    present(undo_report(result))
