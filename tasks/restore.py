"""Restores: their preflight, the restore itself, and its undo."""

from __future__ import annotations

from prefect import task

from scriptorium.operations.restore import RestorePlan, plan_restore, restore_data
from scriptorium.operations.undo import UndoPlan, check_undo, plan_undo, undo_restore
from scriptorium.requests import RestoreRequest, UndoRequest
from scriptorium.results import Restored
from scriptorium.settings import current
from tasks.retry import ONCE


@task(name="preflight", task_run_name="preflight {request.reference}", **ONCE)
def preflight(request: RestoreRequest) -> RestorePlan:
    """Make the plan, and check everything that could prevent the restore; raises the first problem. Changes nothing."""
    plan = plan_restore(current(), request)
    plan.preflight.require()
    return plan


@task(name="restore", task_run_name="restore {plan.backup}", **ONCE)
def restore(plan: RestorePlan) -> Restored:
    """Unpack, compare, switch, check the health of the application; after a failure the previous data is put back."""
    return restore_data(current(), plan)


@task(name="preflight undo", task_run_name="preflight undo", **ONCE)
def preflight_undo(request: UndoRequest) -> UndoPlan:
    """Find the restore to undo, and check everything that could prevent the undo. Changes nothing."""
    return check_undo(current(), plan_undo(current(), request))


@task(name="undo", task_run_name="undo the restore of {library}", **ONCE)
def undo(library: str) -> str:
    """Put back what the newest restore replaced."""
    return undo_restore(current(), library)
