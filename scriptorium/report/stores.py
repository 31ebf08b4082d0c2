"""The stores, and what was found when they were examined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from scriptorium import wording
from scriptorium.report.report import Document, Report, Row, Table
from scriptorium.results import StoreFinding, StoreState

_FLAWS = {True: "good", False: "bad", None: "note"}


def stores_report(states: Sequence[StoreState]) -> Report:
    """Every store: what it can, what it has, and why it is of no use now, where that is so."""
    table = Table(_state_rows(states), right=("Backups", "Used", "Free"), spare=("Features", "Free"))
    return Report("stores", "all", "The stores", document=_stores_document(states), blocks=(table,))


def findings_report(findings: Sequence[StoreFinding]) -> Report:
    """What was found when stores were examined, or made."""
    bad = sorted({one.store for one in findings if one.good is False})
    document = {"findings": [dataclasses.asdict(one) for one in findings], "good": not bad}
    table = Table(_finding_rows(findings), spare=("Hint",))
    verdict = f"not as they should be: {', '.join(bad)}" if bad else ""
    return Report("stores", "all", "The stores", document=document, blocks=(table,), verdict=verdict, good=not bad)


def _stores_document(states: Sequence[StoreState]) -> Document:
    return {
        "stores": [
            {
                "name": one.name,
                "kind": one.kind,
                "features": dict(one.features),
                "used": one.used,
                "free": one.free,
                "backups": one.backups,
                "newest_copy": one.newest.isoformat() if one.newest else None,
                "reachable": not one.error,
                "error": one.error or None,
            }
            for one in states
        ]
    }


def _state_rows(states: Sequence[StoreState]) -> Sequence[Row]:
    return [
        {
            "Store": one.name,
            "Kind": one.kind,
            "Backups": "?" if one.error else str(one.backups),
            "Newest copy (UTC)": wording.utc(one.newest) if one.newest else "none",
            "Used": wording.size(one.used) if one.used is not None else "?",
            "Free": wording.size(one.free) if one.free is not None else "?",
            "Answers": one.error or "yes",
            "Features": ", ".join(name.replace("_", " ") for name, has in one.features.items() if has),
        }
        for one in states
    ]


def _finding_rows(findings: Sequence[StoreFinding]) -> Sequence[Row]:
    return [
        {"Store": one.store, "What": one.what, "Verdict": _FLAWS[one.good], "Found": one.found, "Hint": one.hint}
        for one in findings
    ]
