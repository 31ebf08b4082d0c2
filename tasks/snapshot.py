"""Snapshots: a source is copied into the staging folder in one consistent state."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from scriptorium.model import Staged
from scriptorium.operations.backup import BackupPlan, stage_source
from scriptorium.settings import current
from scriptorium.workspace.space import Space
from tasks.retry import RETRIED


@task(name="snapshot", task_run_name="snapshot {source}", **RETRIED)
def snapshot(plan: BackupPlan, source: str, folder: Path, space: Space) -> Staged:
    """Snapshot one source of the library."""
    return stage_source(current(), plan, source, folder, space)
