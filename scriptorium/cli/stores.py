"""``stores``: what they are and have; making them ready; examining them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from scriptorium.cli.output import (
    Config,
    Json,
    LogFile,
    Quiet,
    Verbose,
    command,
    current,
    present,
    set_manner,
    with_errors,
)
from scriptorium.errors import PermanentError
from scriptorium.report.stores import findings_report, stores_report
from scriptorium.results import StoreFinding

app = typer.Typer(help="List the stores, make them ready, examine them.", invoke_without_command=True)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[STORE]…", help="Stores; without: all.", show_default=False)
]
TryDelete = Annotated[
    bool, typer.Option("--try-delete", help="Put something made for that, and try to remove it: it proves a lock.")
]


@app.callback(epilog="Example:  scriptorium stores --json")
def stores(
    context: typer.Context,
    config: Config = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json_output: Json = False,
    log_file: LogFile = None,
) -> None:
    """List the stores, make them ready (init), examine them (check)."""
    with_errors(lambda: set_manner(config, verbose, quiet, json_output, log_file))
    if context.invoked_subcommand is None:
        with_errors(lambda: _list(()))


@command(app, "list", example="scriptorium stores list offsite")
def list_stores(names: Names = None) -> None:
    """List the stores: features, space, newest copy, whether they answer."""
    _list(names or ())


def _list(names: Sequence[str]) -> None:
    from scriptorium.operations.stores import states

    present(stores_report(states(current(), names)))


@command(app, "init", example="scriptorium stores init offsite")
def init(names: Names = None) -> None:
    """Make the places of stores (a bucket, a repository) where they are not there."""
    from scriptorium.operations.stores import initialize

    _show(tuple(initialize(current(), names or ())), "could not be made ready")


@command(app, "check", example="scriptorium stores check offsite --try-delete")
def check(names: Names = None, try_delete: TryDelete = False) -> None:
    """Examine stores: whether they answer, have space, and do what the settings say."""
    from scriptorium.operations.recovery_kit import with_kit
    from scriptorium.operations.stores import examine

    found = tuple(examine(current(), names or (), try_delete=try_delete))
    _show(found if names else with_kit(current(), found), "not as it should be")


def _show(findings: tuple[StoreFinding, ...], wrong: str) -> None:
    present(findings_report(findings))
    bad = [one for one in findings if one.good is False]
    if bad:
        stores = ", ".join(dict.fromkeys(one.store for one in bad))
        raise PermanentError(f"{wrong}: {bad[0].what}, {bad[0].found}", on=stores, hint=bad[0].hint)
