"""Export: tables of a backup as files for people and spreadsheets."""

from __future__ import annotations

from prefect import flow

from flows.runs import given, of_library, publish
from scriptorium.operations.export import plan_export
from scriptorium.report.export import export_report
from scriptorium.requests import LATEST, AnyExportFormat, ExportRequest, Names
from scriptorium.results import ExportResult
from scriptorium.settings import current
from scriptorium.words import ExportFormat
from tasks.export import write_tables


def _name() -> str:
    return f"export {given().get('reference', LATEST)}{of_library()}"


@flow(name="export", flow_run_name=_name, persist_result=False)
def export(
    reference: str = LATEST,
    library: str | None = None,
    tables: Names = (),
    format: AnyExportFormat = ExportFormat.CSV,
    output: str | None = None,
) -> ExportResult:
    """Write tables of a backup as files, straight from its archive.

    Args:
        reference: The backup: its id, 4 or more digits of it, its name, or latest.
        library: A name from the settings; needed for latest if there are several.
        tables: Names as the backup lists them. Default: every table.
        format: The format of the files.
        output: A file for one table, else a folder.
    """
    result = write_tables(plan_export(current(), ExportRequest(**locals())))
    publish(export_report(result))
    return result
