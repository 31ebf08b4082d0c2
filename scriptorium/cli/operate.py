"""Commands that do the work. Each starts a Prefect flow run; a flow is imported when it is needed."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from scriptorium.cli.inspect import Library, Yes
from scriptorium.cli.output import (
    catalog_of,
    command,
    confirm,
    current,
    every,
    manner,
    present,
    put_json,
    say,
    show,
    warn_of_half_restores,
)
from scriptorium.cli.run_flow import carried_out, flow_runs
from scriptorium.cli.several import Failure, keeping_failures, without_keeping, worst
from scriptorium.cli.store_url import chosen, meant_library
from scriptorium.errors import DamageFound, ScriptoriumError, UsageError
from scriptorium.model import Backup, Manifest
from scriptorium.report.backup import failure_document, taken_report
from scriptorium.report.drill import drill_report
from scriptorium.report.prune import plan_report, prune_report
from scriptorium.report.verify import verify_report
from scriptorium.words import Compression, Tier

app = typer.Typer()
DEGRADED = 8  # the exit code of a backup that was taken but lacks something


@command(app, "create", example='scriptorium create --type full --name "before the move"')
def create(
    library: Library = None,
    type: Annotated[
        str | None, typer.Option("--type", "-t", metavar="T", help="full, data, database, config; default: the tier's.")
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="N", help="The name you will look for.")] = "",
    description: Annotated[str, typer.Option("--description", metavar="D", help="One line about the backup.")] = "",
    tier: Annotated[str, typer.Option("--tier", metavar="T", help=f"One of {', '.join(Tier)}.")] = "manual",
    to: Annotated[list[str] | None, typer.Option("--to", metavar="STORE", help="Stores (may be repeated).")] = None,
    compression: Annotated[
        str | None, typer.Option("--compression", metavar="C", help=f"One of {', '.join(Compression)}.")
    ] = None,
) -> None:
    """Take a backup and verify it."""
    from scriptorium.operations.backup import check_request
    from scriptorium.requests import BackupRequest

    settings = current()
    given = {"type": type, "tier": tier, "name": name, "description": description, "compression": compression}
    names = list(settings.libraries) if library == "all" else [settings.library(library).name]
    requests = [BackupRequest(library=one, to=to, **given) for one in names]
    failed: dict[str, Failure] = {}
    each = keeping_failures if library == "all" else without_keeping
    for request in requests:  # errors in the request are reported at once, before Prefect is loaded
        with each(str(request.library), failed):
            check_request(settings, request)
    done, documents = [], []
    with flow_runs() if len(failed) < len(requests) else contextlib.nullcontext():
        for request in (one for one in requests if one.library not in failed):
            from flows.backup import backup as flow

            with each(str(request.library), failed):
                backup = carried_out(flow, **request.parameters())
                done.append(backup)
                places = [settings.store(copy.store).location(copy.key) for copy in backup.copies]
                report = taken_report(backup, places, _manifest(backup))
                show(report)
                documents.append(report.document)
    if manner.json:
        failures = [failure_document(name, one.what, one.hint, one.code) for name, one in failed.items()]
        put_json([*documents, *failures] if library == "all" else documents[0])
    if failed:
        say(f"{len(failed)} of {len(requests)} libraries have no new backup: {', '.join(failed)}")
    if code := worst(
        [*(one.code for one in failed.values()), *(DEGRADED for one in done if one.unsaved or one.missing)]
    ):
        raise typer.Exit(code)


def _manifest(backup: Backup) -> Manifest | ScriptoriumError | None:
    """The manifest, if any of it is printed. The backup is taken, even if its store fails now."""
    if (manner.json or manner.quiet) and not backup.unsaved:
        return None
    try:
        return catalog_of(current()).manifest(backup.copies[0])
    except ScriptoriumError as error:
        return error


@command(app, "verify", example="scriptorium verify latest")
def verify(
    references: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Backups; or --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every copy of every backup.")] = False,
    read_data: Annotated[
        str | None, typer.Option("--read-data", metavar="N/T", help="The N-th of T shares of --all.")
    ] = None,
    library: Library = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="S", help="Only copies in this store; its name, or its URL.")
    ] = None,
) -> None:
    """Read copies back and compare every hash."""
    if bool(references) == everything:
        raise UsageError("name the backups to verify, or give --all", hint="scriptorium verify latest")
    if read_data and not everything:
        raise UsageError("--read-data needs --all")
    from scriptorium.operations.verify import choose_copies
    from scriptorium.requests import VerifyRequest

    settings, store = chosen(store)
    warn_of_half_restores(settings)
    if references or not settings.libraries:
        library = meant_library(settings, library, *(references or ()))
    else:
        library = every(settings, library)
    request = VerifyRequest(ids=references, library=library, store=store, share=read_data)
    choose_copies(settings, request)
    with flow_runs():
        from flows.verify import verify as flow

        result = carried_out(flow, **request.parameters())
    report = verify_report(result, library)
    present(report)
    if not report.good:
        raise DamageFound(
            report.verdict,
            on=", ".join(one.backup.id for one in result.damaged[:5]),
            hint="they are marked as damaged and no longer count; take a new backup, or copy a sound one from another "
            "store",
        )


@command(app, "drill", example="scriptorium drill latest")
def drill(
    reference: Annotated[str, typer.Argument(metavar="[ID]", help="A backup; default: the latest good.")] = "latest",
    store: Annotated[
        str | None, typer.Option("--from", metavar="STORE", help="Drill the copy of this store; its name, or its URL.")
    ] = None,
    library: Library = None,
) -> None:
    """Restore a backup into a scratch folder, compare it with its record, keep the proof, clean up."""
    settings, store = chosen(store)
    warn_of_half_restores(settings)
    from scriptorium.requests import DrillRequest

    request = DrillRequest(reference=reference, library=meant_library(settings, library, reference), store=store)
    with flow_runs():
        from flows.drill import drill as flow

        result = carried_out(flow, **request.parameters())
    report = drill_report(result)
    present(report)
    if not report.good:
        hint = "; ".join(result.proof.differences) or "see the checks"
        raise DamageFound("the backup is not what it should be", on=reference, hint=hint)


@command(app, "cleanup", example="scriptorium cleanup --keep-daily 7 --keep-weekly 4 --dry-run")
def cleanup(
    library: Library = None,
    max_age: Annotated[int | None, typer.Option("--max-age", metavar="DAYS", help="Remove older ones.")] = None,
    max_count: Annotated[int | None, typer.Option("--max-count", metavar="N", help="Remove the oldest over N.")] = None,
    keep_last: Annotated[int | None, typer.Option("--keep-last", metavar="N")] = None,
    keep_hourly: Annotated[int | None, typer.Option("--keep-hourly", metavar="N")] = None,
    keep_daily: Annotated[int | None, typer.Option("--keep-daily", metavar="N")] = None,
    keep_weekly: Annotated[int | None, typer.Option("--keep-weekly", metavar="N")] = None,
    keep_monthly: Annotated[int | None, typer.Option("--keep-monthly", metavar="N")] = None,
    keep_yearly: Annotated[int | None, typer.Option("--keep-yearly", metavar="N")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Apply retention now: keep or remove each backup, with the reason. Without rules, the settings' rules apply."""
    from scriptorium.operations.decided import decided
    from scriptorium.operations.prune import plan_prune, policy_of
    from scriptorium.requests import PruneRequest
    from scriptorium.results import PruneResult

    settings = current()
    warn_of_half_restores(settings)
    given = {
        "max_age": max_age,
        "max_count": max_count,
        "last": keep_last,
        "hourly": keep_hourly,
        "daily": keep_daily,
        "weekly": keep_weekly,
        "monthly": keep_monthly,
        "yearly": keep_yearly,
    }
    rules = {name: value for name, value in given.items() if value is not None}
    policy = policy_of(rules) if rules else None
    request = PruneRequest(library=every(settings, library), policy=policy, dry_run=dry_run)
    plan = plan_prune(settings, request)
    for name, found in plan.libraries.items():
        show(plan_report(name, found))
    to_remove = [decision for decision in plan.decisions if not decision.keep]
    removed: tuple[str, ...] = ()
    unreclaimed: dict[str, str] = {}
    if not dry_run and to_remove:
        confirm(f"Remove {len(to_remove)} backup{'s' if len(to_remove) != 1 else ''}?", yes=yes)
    if not dry_run:
        with flow_runs():
            from flows.prune import prune as flow

            for name in plan.libraries:
                one = request.model_copy(update={"library": name})
                with decided(one, plan.of(name)):
                    result = carried_out(flow, **one.parameters())
                    removed, unreclaimed = removed + result.removed, dict(result.unreclaimed)
    present(prune_report(PruneResult(plan.decisions, removed, (), dry_run, unreclaimed)))
