"""The history of the runs of one command, if Prefect's embedded server keeps it.

Prefect sends the states of flows by calls that are answered, but the states of tasks as events that its server records
a little later. The embedded server ends together with the command. What it has not recorded by then is lost, and the
last task of a backup would be shown as running for ever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_runs: dict[str, int] = {}


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Note the flow run that this block belongs to, and how many tasks it ran."""
    from prefect.context import FlowRunContext

    try:
        yield
    finally:
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            _runs[str(context.flow_run.id)] = sum(int(last) + 1 for last in context.task_run_dynamic_keys.values())


def written_down(seconds: float) -> bool:
    """Wait until the embedded server has recorded the end of every task of the noted runs; false if it is too slow."""
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
    """How many tasks of these flow runs have ended, according to the server."""
    from prefect.client.orchestration import get_client

    wanted = {"flow_runs": {"id": {"any_": runs}}, "task_runs": {"state": {"type": {"any_": _ENDED}}}}
    with get_client(sync_client=True) as client:
        return int(client.request("POST", "/task_runs/count", json=wanted).json())
