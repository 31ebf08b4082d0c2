"""``copy``: backups into further stores, from the copies that there are."""

from __future__ import annotations

from typing import Annotated

import typer

from scriptorium.cli.inspect import Library
from scriptorium.cli.output import command, current, every, meant, present
from scriptorium.cli.run_flow import carried_out, flow_runs
from scriptorium.report.copy import copy_report

app = typer.Typer()

Backup = Annotated[str, typer.Argument(metavar="[ID]", help="A backup; default: the latest good.")]
To = Annotated[
    list[str] | None, typer.Option("--to", metavar="STORE", help="Where to (may be repeated); default: the tier's.")
]
From = Annotated[str | None, typer.Option("--from", metavar="STORE", help="Copy this store's copy.")]
Missing = Annotated[
    bool, typer.Option("--missing", help="All backups, into the stores of their tiers that have no good copy.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be copied; do nothing.")]


@command(app, "copy", example="scriptorium copy latest --to offsite")
def copy(
    reference: Backup = "latest",
    to: To = None,
    store: From = None,
    missing: Missing = False,
    library: Library = None,
    dry_run: DryRun = False,
) -> None:
    """Copy a backup into another store, or (--missing) everything that a store lacks."""
    from scriptorium.operations.copy_plan import outcome, plan_copy
    from scriptorium.requests import CopyRequest

    settings = current()
    chosen = every(settings, library) if missing else meant(settings, library, reference)
    request = CopyRequest(reference=reference, library=chosen, to=to, store=store, missing=missing, dry_run=dry_run)
    plan = plan_copy(settings, request)  # errors are reported at once, before Prefect is loaded
    if dry_run or not plan.copies:
        result = outcome(plan)
    else:
        with flow_runs():
            from flows.copy import copy as flow

            result = carried_out(flow, **request.parameters())
    present(copy_report(result, chosen))
    result.require_every_copy()
