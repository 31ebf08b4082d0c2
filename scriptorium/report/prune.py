"""Results of retention: what is kept, what is removed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.report.report import Document, Fields, Report, Table

if TYPE_CHECKING:
    from scriptorium.results import PruneResult
    from scriptorium.retention import Decision


def plan_report(library: str, decisions: Sequence[Decision]) -> Report:
    """The report on what a cleanup of one library would do."""
    document = {"dry_run": True, "decisions": [decision_document(one) for one in decisions], "removed": []}
    return Report("plan", library, f"Plan of a cleanup of {library}", document, tuple(_blocks({library: decisions})))


def prune_report(result: PruneResult, library: str | None = None) -> Report:
    """The report on a cleanup: what retention decided about each backup, and what was removed."""
    size = sum(one.candidate.bytes for one in result.decisions if one.candidate.id in result.removed)
    by_library: dict[str, list[Decision]] = {}
    for decision in result.decisions:
        by_library.setdefault(decision.candidate.library, []).append(decision)
    return Report(
        "prune",
        library or "all",
        "Retention",
        document={
            "dry_run": result.dry_run,
            "decisions": [decision_document(decision) for decision in result.decisions],
            "removed": list(result.removed),
            "unreclaimed": dict(result.unreclaimed),
        },
        blocks=(Fields({"removed": wording.size(size)}, detail=True), *_blocks(by_library, detail=True)),
        warnings=[
            f"{store}: the space of what was removed is not free yet: {reason}"
            for store, reason in result.unreclaimed.items()
        ],
        verdict="dry run: nothing was removed" if result.dry_run else f"{len(result.removed)} removed",
    )


def _blocks(libraries: Mapping[str, Sequence[Decision]], *, detail: bool = False) -> Iterator[Fields | Table]:
    for name, decisions in libraries.items():
        kept = sum(one.keep for one in decisions)
        yield Fields({name: f"{kept} to keep, {len(decisions) - kept} to remove"}, detail)
        yield Table([_row(decision) for decision in decisions], right=("Size",), detail=detail)


def decision_document(decision: Decision) -> Document:
    one = decision.candidate
    return {
        "id": one.id,
        "library": one.library,
        "type": str(one.type),
        "tier": str(one.tier),
        "created_at": one.created_at.isoformat(),
        "bytes": one.bytes,
        "keep": decision.keep,
        "reasons": list(decision.reasons),
        "goes": list(decision.goes),
    }


def _row(decision: Decision) -> Mapping[str, str]:
    one = decision.candidate
    return {
        "ID": one.id,
        "Taken (UTC)": wording.utc(one.created_at),
        "Type": str(one.type),
        "Tier": str(one.tier),
        "Size": wording.size(one.bytes),
        "Verdict": _verdict(decision),
        "Why": "; ".join(decision.reasons),
    }


def _verdict(decision: Decision) -> str:
    if decision.goes:
        return f"keep, not in {', '.join(decision.goes)}"
    return "keep" if decision.keep else "remove"
