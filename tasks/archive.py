"""Archives: packed in one pass, and read back before they count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import task

from scriptorium.model import Manifest, Staged, Verification
from scriptorium.operations.backup import BackupPlan, check_archive, pack_archive
from scriptorium.settings import current
from scriptorium.workspace.space import Space
from tasks.retry import RETRIED


@task(name="archive", task_run_name="archive {plan.archive}", **RETRIED)
def archive(plan: BackupPlan, staged: Sequence[Staged], folder: Path, space: Space) -> Manifest:
    """Pack the staged sources into one archive."""
    return pack_archive(current(), plan, staged, folder, space)


@task(name="verify", task_run_name="verify {plan.archive}", **RETRIED)
def verify_archive(plan: BackupPlan, manifest: Manifest, folder: Path) -> Verification:
    """Read the new archive back and compare every hash."""
    return check_archive(current(), plan, manifest, folder)
