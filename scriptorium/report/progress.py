"""How far a run is, as JSON and as rows, for `show` and later for a web page."""

from __future__ import annotations

from datetime import datetime

from scriptorium import wording
from scriptorium.progress import RunProgress


def progress_document(run: RunProgress) -> dict[str, object]:
    """``percent`` and ``seconds_left`` are those of the step; ``null`` if its size is not known."""
    return {
        "run": run.run,
        "flow_run": run.outside or None,
        "operation": run.operation,
        "library": run.library,
        "state": "running" if run.alive else "cut short",
        "step": run.step.name,
        "item": run.step.item,
        "bytes_done": run.done,
        "bytes_expected": run.step.expected,
        "percent": None if run.share_done is None else round(run.share_done * 100, 1),
        "seconds_left": None if run.seconds_left is None else round(run.seconds_left),
        "began": run.began.isoformat(),
        "written_at": run.written_at.isoformat(),
    }


def progress_rows(run: RunProgress, now: datetime) -> dict[str, str]:
    """Rows for people; a run that was killed is not shown as running."""
    seconds = (run.written_at - run.step_began).total_seconds()
    rows = {
        "operation": run.operation + ("" if run.alive else ": cut short (its process is gone)"),
        "step" if run.alive else "last step": wording.progress(str(run.step), run.done, run.step.expected, seconds),
        "running since" if run.alive else "began": f"{wording.utc(run.began)} UTC",
    }
    if not run.alive or run.quiet(now):
        rows["last update"] = wording.age(run.written_at, now)
    return rows
