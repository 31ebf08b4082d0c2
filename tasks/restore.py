"""The way back: looked at, gone, and gone back from."""

from __future__ import annotations

from prefect import task

from scriptorium.operations.restore import RestoreOrder, UndoPlan, bring_back, check_undo, plan_restore, undo_restore
from scriptorium.restore import Plan, Restored
from scriptorium.settings import current
from tasks.progress import moving
from tasks.retry import ONCE


@task(name="preflight", task_run_name="preflight {order.backup}", **ONCE)
def preflight(order: RestoreOrder) -> Plan:
    """Everything that can be known to stand in the way, before anything is touched; raises the first thing."""
    plan = plan_restore(current(), order)
    plan.require()
    return plan


@task(name="restore", task_run_name="restore {order.backup}", **ONCE)
def restore(order: RestoreOrder) -> Restored:
    """Unpack, compare, switch, ask whether the application is well; on failure what was there is there again."""
    with moving("restoring") as advance:
        return bring_back(current(), order, advance=advance)


@task(name="preflight undo", task_run_name="preflight undo", **ONCE)
def preflight_undo(library: str | None) -> UndoPlan:
    """The library and the backup whose restore would be undone, and whether that one was cut short."""
    return check_undo(current(), library)


@task(name="undo", task_run_name="undo the restore of {library}", **ONCE)
def undo(library: str) -> str:
    """Put back what the newest restore replaced."""
    return undo_restore(current(), library)
