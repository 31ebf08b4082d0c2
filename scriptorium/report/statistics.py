"""How well libraries are protected: the document of ``stats`` and of ``GET /api/stats``, and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.model import PROVEN
from scriptorium.report.report import Document, Report, Table

if TYPE_CHECKING:
    from scriptorium.results import Figures, LastDrill, Statistics, Usage


def statistics_report(statistics: Statistics) -> Report:
    """The report on how well libraries are protected, and how full the stores are."""
    return Report(
        "statistics",
        "all",
        "How well the libraries are protected",
        document=statistics_document(statistics),
        blocks=(
            Table(
                [_library_row(name, figures) for name, figures in statistics.by_library.items()],
                right=("Backups", "Size", "Degraded", "Damaged", "No fingerprints"),
                spare=("Types", "Oldest", "Newest", "No fingerprints", "Degraded"),
            ),
            Table([_store_row(name, usage) for name, usage in statistics.storage.items()], right=("Used", "Free")),
        ),
    )


def statistics_document(statistics: Statistics) -> Document:
    """The figures of all libraries; ``by_library`` has the same figures for each one. Times are RFC 3339."""
    return {
        **_figures_document(statistics.together),
        "by_library": {name: _figures_document(figures) for name, figures in statistics.by_library.items()},
        "storage": {name: _usage_document(usage) for name, usage in statistics.storage.items()},
    }


def _figures_document(figures: Figures) -> Document:
    return {
        "total_backups": figures.backups,
        "total_size_bytes": figures.bytes,
        "total_size_mb": round(figures.bytes / 1_000_000, 2),
        "oldest_backup": _time(figures.oldest),
        "newest_backup": _time(figures.newest),
        "backup_types": dict(figures.types),
        "last_success": _time(figures.last_success),
        "last_proof": _time(figures.last_proof),
        "last_drill": _drill_document(figures.last_drill) if figures.last_drill else None,
        "unrecorded": figures.unrecorded,
        "degraded": figures.degraded,
        "damaged": figures.damaged,
    }


def _drill_document(drill: LastDrill) -> Document:
    return {
        "at": drill.at.isoformat(),
        "backup": drill.backup,
        "store": drill.store,
        "verdict": drill.verdict,
        "recovery_seconds": drill.seconds,
    }


def _usage_document(usage: Usage) -> Document:
    figures = {"kind": usage.kind, "used": usage.used, "free": usage.free}
    return {**figures, "error": usage.error} if usage.error else {**figures}


def _time(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _library_row(name: str, figures: Figures) -> Mapping[str, str]:
    return {
        "Library": name,
        "Backups": str(figures.backups),
        "Size": wording.size(figures.bytes),
        "Newest": _utc(figures.newest, "never"),
        "Last good": _utc(figures.last_success, "never"),
        "Last proof": _utc(figures.last_proof, "never"),
        "Last drill": _drilled(figures.last_drill),
        "No fingerprints": str(figures.unrecorded),
        "Oldest": _utc(figures.oldest, ""),
        "Degraded": str(figures.degraded),
        "Damaged": str(figures.damaged),
        "Types": ", ".join(f"{kind} {count}" for kind, count in figures.types.items()),
    }


def _drilled(drill: LastDrill | None) -> str:
    if drill is None:
        return "never"
    took = f", {wording.duration(drill.seconds)}" if drill.seconds is not None else ""
    when = "" if drill.verdict == PROVEN else f", {wording.utc(drill.at)}"  # a proof has its own column
    return f"{drill.verdict}{took} from {drill.store}{when}"


def _utc(time: datetime | None, otherwise: str) -> str:
    return wording.utc(time) if time else otherwise


def _store_row(name: str, usage: Usage) -> Mapping[str, str]:
    return {"Store": name, "Kind": usage.kind, "Used": _bytes(usage.used), "Free": _bytes(usage.free)}


def _bytes(count: int | None) -> str:
    return "?" if count is None else wording.size(count)
