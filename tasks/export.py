"""Exports: tables out of an archive."""

from __future__ import annotations

from prefect import task

from scriptorium.operations.export import ExportPlan, run_export
from scriptorium.results import ExportResult
from scriptorium.settings import current
from tasks.retry import RETRIED


@task(name="export", task_run_name="export from {plan.backup.id}", **RETRIED)
def write_tables(plan: ExportPlan) -> ExportResult:
    """Write the tables of a backup as files."""
    return run_export(current(), plan)
