"""Results of adopting files that other programs made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.report.backups import backup_document
from scriptorium.report.report import Document, Report

if TYPE_CHECKING:
    from scriptorium.results import AdoptOutcome


def adopt_report(results: Sequence[AdoptOutcome], leaving: Sequence[str]) -> Report:
    """The report on files that were to be adopted. ``leaving``: the backups that the next cleanup would remove."""
    failed = sum(one.error is not None for one in results)
    names = ", ".join(leaving)
    note = f"note: the next cleanup would remove {names}, by age (see prune_after); scriptorium pin ID keeps one"
    return Report(
        "adopt",
        "all",
        "Adopted backups",
        document={"files": [_document(one, leaving) for one in results], "failed": failed},
        notes=(note,) if leaving else (),
        verdict="" if results else "no archive was found that could be adopted",
        good=not failed,
    )


def adopted_lines(result: AdoptOutcome, *, warnings: bool) -> list[str]:
    """What became of one file. ``warnings``: all of them are listed, else they are counted."""
    adopted = result.adopted
    if adopted is None:
        hint = f" ({result.error.hint})" if result.error and result.error.hint else ""
        return [f"{result.file.name}: not adopted: {result.error}{hint}"]
    backup, found = adopted.backup, adopted.warnings
    if adopted.already:
        return [f"{result.file.name}: already adopted as {backup.id}"]
    what = f"{backup.type}, taken {wording.utc(backup.created_at)} UTC, {wording.size(backup.bytes)}"
    line = f"{result.file.name}: adopted as {backup.id} ({what})"
    if warnings:
        return [line, *(f"  warning: {warning}" for warning in found)]
    if len(found) > 1:
        return [f"{line}; {len(found)} warnings (scriptorium show {backup.id})"]
    return [f"{line}; warning: {found[0]}" if found else line]


def _document(result: AdoptOutcome, leaving: Sequence[str]) -> Document:
    adopted, error = result.adopted, result.error
    if adopted is None:
        return {"file": str(result.file), "error": error.exact if error else "", "hint": error.hint if error else ""}
    return {
        "file": str(result.file),
        "already": adopted.already,
        "warnings": list(adopted.warnings),
        "leaving": adopted.backup.id in leaving,
        "backup": backup_document(adopted.backup),
    }
