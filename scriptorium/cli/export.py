"""``export``: tables of a backup as files for people and spreadsheets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scriptorium.cli.inspect import Library
from scriptorium.cli.output import command, current, present
from scriptorium.cli.run_flow import carried_out, flow_runs
from scriptorium.report.export import export_report

app = typer.Typer()


@command(app, "export", example="scriptorium export --tables Book --output books.csv")
def export(
    format: Annotated[str, typer.Option("--format", "-f", metavar="F", help="csv, json or parquet.")] = "csv",
    reference: Annotated[
        str, typer.Option("--from", metavar="ID", help="An id, 4 or more digits of it, a name, or 'latest'.")
    ] = "latest",
    tables: Annotated[
        str, typer.Option("--tables", metavar="A,B", help="Names as `show` lists them; default: every table.")
    ] = "",
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PATH", help="A file for one table, else a folder.")
    ] = None,
    library: Library = None,
) -> None:
    """Write tables of a backup as CSV, JSON or Parquet, directly from its archive."""
    from scriptorium.operations.decided import decided
    from scriptorium.operations.export import listed, plan_export
    from scriptorium.requests import ExportRequest

    wanted = ExportRequest(reference=reference, library=library, tables=listed(tables), format=format, output=output)
    plan = plan_export(current(), wanted)
    request = wanted.model_copy(update={"reference": plan.backup.id, "output": str(plan.output)})
    with flow_runs(), decided(request, plan):
        from flows.export import export as flow

        exported = carried_out(flow, **request.parameters())
    present(export_report(exported, Path.cwd()))
