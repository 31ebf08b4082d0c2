"""The way back: looked at, gone, and undone."""

from __future__ import annotations

from prefect import task

from scriptorium.operations.restore import RestorePlan, bring_back, plan_restore
from scriptorium.operations.undo import UndoPlan, check_undo, plan_undo, undo_restore
from scriptorium.requests import RestoreRequest, UndoRequest
from scriptorium.results import Restored
from scriptorium.settings import current
from tasks.retry import ONCE


@task(name="preflight", task_run_name="preflight {request.reference}", **ONCE)
def preflight(request: RestoreRequest) -> RestorePlan:
    """The plan, with everything that can be known to stand in the way, before anything is touched; raises the first
    such thing."""
    plan = plan_restore(current(), request)
    plan.preflight.require()
    return plan


@task(name="restore", task_run_name="restore {plan.backup}", **ONCE)
def restore(plan: RestorePlan) -> Restored:
    """Unpack, compare, switch, ask whether the application is well; on failure what was there is there again."""
    return bring_back(current(), plan)


@task(name="preflight undo", task_run_name="preflight undo", **ONCE)
def preflight_undo(request: UndoRequest) -> UndoPlan:
    """The library and the backup whose restore would be undone, and whether that one was cut short."""
    return check_undo(current(), plan_undo(current(), request))


@task(name="undo", task_run_name="undo the restore of {library}", **ONCE)
def undo(library: str) -> str:
    """Put back what the newest restore replaced."""
    return undo_restore(current(), library)
