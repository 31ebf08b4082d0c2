"""Results of exports: the files that were written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.report.report import Document, Fields, Report, Row, Table

if TYPE_CHECKING:
    from scriptorium.results import ExportedTable, ExportResult


def export_report(result: ExportResult, folder: Path | None = None) -> Report:
    """The report on an export of tables. People are shown paths relative to ``folder``, if it is given."""
    count = len(result.tables)
    fields = {
        "backup": f"{result.name} ({result.backup})",
        "written to": result.output,
        "size": wording.size(result.bytes),
    }
    lacking = ", ".join(result.without_rows)
    return Report(
        "export",
        result.library,
        f"Export of {result.name}",
        document=export_document(result),
        blocks=(
            Fields(fields, detail=True),
            Table([_row(one, folder) for one in result.tables], right=("Rows", "Size")),
        ),
        notes=(f"a backup contains no rows of: {lacking}",) if lacking else (),
        verdict=f"{count} table{'s' if count != 1 else ''}, {result.rows:,} rows from {result.name}",
    )


def export_document(result: ExportResult) -> Document:
    """The files that an export wrote."""
    files = [
        {"source": one.source, "table": one.table, "path": one.path, "rows": one.rows, "bytes": one.bytes}
        for one in result.tables
    ]
    return {
        "backup": result.backup,
        "format": str(result.format),
        "output": result.output,
        "files": files,
        "without_rows": list(result.without_rows),
    }


def _row(one: ExportedTable, folder: Path | None) -> Row:
    return {
        "Table": one.table,
        "Rows": f"{one.rows:,}",
        "Size": wording.size(one.bytes),
        "File": os.path.relpath(one.path, folder) if folder else one.path,
    }
