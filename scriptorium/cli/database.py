"""``database``: write one PostgreSQL database to one file, load it from one, and check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scriptorium.cli.inspect import Library, Yes
from scriptorium.cli.output import command, confirm, current, present
from scriptorium.cli.run_flow import carried_out, flow_runs
from scriptorium.errors import DamageFound
from scriptorium.report.database import database_backup_report, database_restore_report, health_report

app = typer.Typer(help="Write one PostgreSQL database to one file, load it, check it.", no_args_is_help=True)

Source = Annotated[str | None, typer.Option("--source", metavar="S", help="Which database, if there are several.")]

Trust = Annotated[
    bool, typer.Option("--trust", help="I know who made it: it may have code that reaches the server's machine.")
]


@command(app, "backup", example="scriptorium database backup alexandria.dump --format custom --compress 6")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; its folder is created.")],
    format: Annotated[str, typer.Option("--format", metavar="F", help="custom, sql or directory.")] = "custom",
    compress: Annotated[int, typer.Option("--compress", "-z", min=0, max=9, help="0 (none) to 9.")] = 6,
    source: Source = None,
    library: Library = None,
) -> None:
    """Write the database to one file."""
    from scriptorium.operations.database import database_of
    from scriptorium.requests import DatabaseBackupRequest

    place = str(file.absolute())
    request = DatabaseBackupRequest(file=place, library=library, source=source, format=format, compress=compress)
    database_of(current().library(library), source)
    with flow_runs():
        from flows.database import database_backup as flow

        size = carried_out(flow, **request.parameters())
    present(database_backup_report(request, size, file=str(file)))


@command(app, "restore", example="scriptorium database restore alexandria.dump --clean --yes")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `database backup` or pg_dump wrote.")],
    clean: Annotated[
        bool, typer.Option("--clean", help="Replace existing objects; without it, the database must be empty.")
    ] = False,
    trust: Trust = False,
    without_broken_constraints: Annotated[
        bool,
        typer.Option("--without-broken-constraints", help="Leave out constraints that the rows break, and name them."),
    ] = False,
    source: Source = None,
    library: Library = None,
    yes: Yes = False,
) -> None:
    """Load the database from one file, in one transaction: all of it or nothing."""
    from scriptorium.operations.database import database_of
    from scriptorium.requests import DatabaseRestoreRequest

    place = str(file.absolute())
    request = DatabaseRestoreRequest(
        file=place,
        library=library,
        source=source,
        clean=clean,
        trust=trust,
        without_broken_constraints=without_broken_constraints,
    )
    address = database_of(current().library(library), source).address()
    confirm(f"Load {file} into {address}{', and replace its contents' if clean else ''}?", yes=yes)
    with flow_runs():
        from flows.database import database_restore as flow

        warnings = carried_out(flow, **request.parameters())
    present(database_restore_report(request, warnings, file=str(file)))


@command(app, "check", example="scriptorium database check")
def check(source: Source = None, library: Library = None) -> None:
    """Check the database: connection, versions, indexes, checksums, and the library's own rules."""
    from scriptorium.operations.database import check_database, database_of

    chosen = current().library(library)
    report = health_report(check_database(database_of(chosen, source), chosen), chosen.name)
    present(report)
    if not report.good:
        raise DamageFound(report.verdict, on=chosen.name)
