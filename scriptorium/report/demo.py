"""Results of the demo: each step with its result, and where the archives and the runs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scriptorium import wording
from scriptorium.report.report import Fields, Report, Table


@dataclass
class Step:
    """One step of the demo. Its result and its time are known when it has ended."""

    what: str
    result: str = ""
    seconds: float = 0.0


def demo_report(steps: Sequence[Step], archives: Mapping[str, str], seconds: float, *, server: str) -> Report:
    """The report on a demo that succeeded. ``server``: the command that shows its runs in a browser."""
    rows = [{"Step": one.what, "Result": one.result, "Took": wording.duration(one.seconds)} for one in steps]
    ending = {
        "in all": wording.duration(seconds),
        "the runs": server,
        "then open": "http://127.0.0.1:4200/runs",
    }
    return Report(
        "demo",
        "",
        "Demo",
        document={
            "steps": [{"what": one.what, "result": one.result, "seconds": round(one.seconds, 3)} for one in steps],
            "facts": dict(archives),
            "seconds": round(seconds, 3),
        },
        blocks=(Table(rows, right=("Took",)), Fields({**archives, **ending})),
        verdict="Done: backed up while being written to, verified, restored, compared. Everything is equal.",
    )
