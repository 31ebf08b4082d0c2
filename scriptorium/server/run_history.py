"""The history of the runs of one command, where Prefect's embedded server keeps it.

Prefect sends the states of flows by calls that are answered, those of tasks as events that its server writes down a
moment later. The embedded server is ended together with the command; what it had not written by then is lost, and the
last task of a backup would stand in the history as running for ever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_runs: dict[str, int] = {}


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Note the flow run in whose body the block is, and how many tasks it ran."""
    from prefect.context import FlowRunContext

    try:
        yield
    finally:
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            _runs[str(context.flow_run.id)] = sum(int(last) + 1 for last in context.task_run_dynamic_keys.values())


def written_down(seconds: float) -> bool:
    """Wait until the embedded server has the end of every task of the noted runs; whether it had in time."""
    runs = dict(_runs)
    _runs.clear()
    if not runs:
        return True
    until = time.monotonic() + seconds
    while _ended(tuple(runs)) < sum(runs.values()):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _ended(runs: tuple[str, ...]) -> int:
    """How many tasks of these flow runs the server knows to have ended."""
    from prefect.client.orchestration import get_client

    wanted = {"flow_runs": {"id": {"any_": runs}}, "task_runs": {"state": {"type": {"any_": _ENDED}}}}
    with get_client(sync_client=True) as client:
        return int(client.request("POST", "/task_runs/count", json=wanted).json())
