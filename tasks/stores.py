"""Stores: copies are uploaded, read back and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import task

from scriptorium.model import Copy, Verification
from scriptorium.operations import backup, stores
from scriptorium.operations.backup import BackupPlan, store_copy
from scriptorium.operations.copies import Prepared
from scriptorium.operations.copy import copy_one
from scriptorium.operations.prune import carry_out, sweep_stores
from scriptorium.operations.verify import verify_stored
from scriptorium.results import Copied, PlannedCopy
from scriptorium.retention import Decision
from scriptorium.settings import current
from scriptorium.stores import Packaging, Share
from scriptorium.workspace.space import Space
from tasks.retry import ONCE, RETRIED


@task(name="space", task_run_name="check free space", **ONCE)
def check_space(plan: BackupPlan) -> Space:
    """Estimate the size of the backup, check that it fits, and decide which sources are streamed."""
    return backup.check_space(current(), plan)


@task(name="upload", task_run_name="upload to {store}", **RETRIED)
def upload(plan: BackupPlan, prepared: Prepared, checked: Mapping[Packaging, Verification], store: str) -> Copy:
    """Put the backup into a store, its manifest last."""
    return store_copy(current(), plan, prepared, checked, store)


@task(name="verify copy", task_run_name="verify {backup_id} in {copy.store}", **RETRIED)
def verify_copy(backup_id: str, copy: Copy, share: Share | None = None) -> Verification:
    """Read a stored copy back, or a share of it, and compare every hash."""
    return verify_stored(current(), backup_id, copy, share=share)


@task(name="copy", task_run_name="copy {planned}", **RETRIED)
def copy(planned: PlannedCopy) -> Copied:
    """Copy a backup from one store into another, and check the copy where it arrived."""
    return copy_one(current(), planned)


@task(name="prune", task_run_name="prune {library}", **RETRIED)
def prune(library: str, decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Remove the backups that the plan does not keep; returns their ids."""
    return carry_out(current(), library, decisions)


@task(name="reclaim", task_run_name="free the space of what was removed", **RETRIED)
def reclaim() -> Mapping[str, str]:
    """Free the space of what was removed; returns the stores where that must wait, and why."""
    return stores.reclaim(current())


@task(name="sweep", task_run_name="sweep the stores", **RETRIED)
def sweep(dry_run: bool) -> tuple[str, ...]:
    """Remove what crashes left in the stores."""
    return sweep_stores(current(), dry_run=dry_run)
