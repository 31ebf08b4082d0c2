"""Export: tables of a backup as files for people and spreadsheets."""

from __future__ import annotations

from prefect import flow

from flows.runs import given, of_library, publish
from scriptorium import wording
from scriptorium.operations.export import Exported, place_export
from scriptorium.process import no_child_outlives
from scriptorium.report.runs import Report
from scriptorium.settings import current
from scriptorium.umask import private_files
from tasks.export import write_tables


def _name() -> str:
    return f"export {given().get('reference', 'latest')}{of_library()}"


@flow(name="export", flow_run_name=_name, persist_result=False)
def export(
    reference: str = "latest",
    library: str | None = None,
    tables: list[str] | None = None,
    format: str = "csv",
    output: str | None = None,
) -> Exported:
    """Export tables (all without names) of a backup as ``csv``, ``json`` or ``parquet``; ``output``: file or folder."""
    with no_child_outlives(), private_files():
        order = place_export(current(), reference, library=library, tables=tables or (), format=format, output=output)
        exported = write_tables(order)
    summary = {
        "backup": f"{exported.name} ({exported.backup})",
        "written to": exported.output,
        "rows": f"{exported.rows:,}",
        "size": wording.size(exported.bytes),
    }
    rows = [{"table": one.table, "rows": f"{one.rows:,}", "size": wording.size(one.bytes)} for one in exported.tables]
    publish(Report("export", exported.library, f"Export of {exported.name}", summary, rows))
    return exported
