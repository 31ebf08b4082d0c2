"""The way back: a copy into a folder, or over the living data."""

from __future__ import annotations

from prefect import task

from scriptorium.bringing import RestoreOrder, bring_back, check_way
from scriptorium.rescue import Restored
from scriptorium.settings import current
from tasks.progress import moving
from tasks.retry import ONCE


@task(name="preflight", task_run_name="preflight {order.backup}", **ONCE)
def preflight(order: RestoreOrder) -> None:
    """Everything that can be known to stand in the way, before anything is touched."""
    check_way(current(), order)


@task(name="restore", task_run_name="restore {order.backup}", **ONCE)
def restore(order: RestoreOrder) -> Restored:
    """Unpack, compare, switch; on failure what was there is there again."""
    with moving("restoring") as advance:
        return bring_back(current(), order, advance=advance)
