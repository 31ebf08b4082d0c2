"""Drills: a restore that is compared and removed."""

from __future__ import annotations

from prefect import task

from scriptorium.model import Proof
from scriptorium.operations.drill import DrillPlan, run_drill
from scriptorium.settings import current
from tasks.retry import RETRIED


@task(name="drill", task_run_name="drill {plan.backup.id} from {plan.copy.store}", **RETRIED)
def drill(plan: DrillPlan) -> Proof:
    """Restore into a scratch folder, compare, judge, clean up; keep the proof."""
    return run_drill(current(), plan)
