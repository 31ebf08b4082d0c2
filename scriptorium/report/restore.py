"""Results of restores: the preflight, what was restored, and the undo."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.report.report import Document, Fields, Report, Row, Table

if TYPE_CHECKING:
    from scriptorium.results import PreflightRow, RestoreResult, UndoResult

_PREVIOUS = {
    "kept": "the previous data is kept for a while: scriptorium restore --undo puts it back",
    "not kept": "the previous data is not kept (keep_previous = 0)",
    "none was there": "there was no previous data; scriptorium restore --undo removes what was restored",
}


def preflight_report(backup: str, library: str, rows: Sequence[PreflightRow]) -> Report:
    """The report on a dry run: what was looked at, what was found, what is in the way."""
    shown = preflight_rows(rows)
    return Report(
        "preflight",
        library,
        f"Preflight of the restore of {backup}",
        document={"dry_run": True, "id": backup, "plan": shown},
        blocks=(Table(shown),),
        verdict="dry run: nothing was changed",
        good=all(row.trouble is None for row in rows),
    )


def preflight_rows(rows: Sequence[PreflightRow]) -> list[Row]:
    """The rows of a preflight, for people and programs alike."""
    return [
        {"Looked at": row.what, "Found": row.found, "In the way": row.trouble.exact if row.trouble else ""}
        for row in rows
    ]


def restore_report(result: RestoreResult) -> Report:
    """The report on a restore: what was compared, the safety backup, the preflight, and each table."""
    restored = result.restored
    fields = {
        "restored": f"{result.backup} of {result.library} from {result.store}",
        "to": restored.place,
        "files": f"{restored.files:,} ({wording.size(restored.bytes)}), each equal to its recorded hash",
        "tables": restored.summary,
    }
    rows = [
        {"Table": name, "Rows": f"{table.rows:,}", "Fingerprint": table.fingerprint}
        for name, table in sorted(restored.tables.items())
    ]
    return Report(
        "restore",
        result.library,
        f"Restore of {result.backup}",
        document=_restore_document(result),
        blocks=(
            Fields(fields),
            Fields({"safety backup": _safety(result), "took": wording.duration(result.seconds)}, detail=True),
            Table(preflight_rows(result.preflight), detail=True),
            Table(rows, right=("Rows",), detail=True),
        ),
        warnings=restored.lacking,
        notes=[f"warning: {warning}" for warning in (*restored.warnings, *map(str, restored.unset))],
        verdict=_PREVIOUS[restored.previous] if result.in_place else "",
    )


def _restore_document(result: RestoreResult) -> Document:
    restored = result.restored
    tables = {name: {"rows": held.rows, "fingerprint": held.fingerprint} for name, held in restored.tables.items()}
    return {
        "id": result.backup,
        "library": result.library,
        "store": result.store,
        "place": restored.place,
        "files": restored.files,
        "bytes": restored.bytes,
        "parts": list(restored.parts),
        "warnings": [*restored.lacking, *restored.warnings, *map(str, restored.unset)],
        "not_set": [dataclasses.asdict(one) for one in restored.unset],
        "tables": tables,
        "not_compared": dict(restored.comparison.not_compared),
    }


def undo_report(result: UndoResult) -> Report:
    """The report on the undo of a restore."""
    document: Mapping[str, object] = {
        "library": result.library,
        "undone": result.undone,
        "cut_short": result.cut_short,
        "compared": result.compared,
    }
    return Report(
        "undo",
        result.library,
        f"Undo of the restore of {result.undone}",
        document=document,
        blocks=(Fields({"undone": result.undone, "safety backup": _safety(result)}, detail=True),),
        warnings=result.safety_lacks,
        verdict=_undone(result),
    )


def _undone(result: UndoResult) -> str:
    if not result.compared:
        from scriptorium.results import NOTHING_COMPARED

        return f"a restore of {result.undone} was cut short, and was undone; {NOTHING_COMPARED}"
    if result.cut_short:
        return f"a restore of {result.undone} was cut short; the previous data of {result.library} is back"
    return f"the previous data of {result.library} is back; the restore of {result.undone} is undone"


def _safety(result: RestoreResult | UndoResult) -> str:
    return "; ".join((result.safety.id, *result.safety_lacks)) if result.safety else "none"
