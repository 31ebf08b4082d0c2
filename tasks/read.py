"""Sources are read once into packages for all stores; the packages are read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect import task

from scriptorium.model import Staged, Verification
from scriptorium.operations.backup import BackupPlan, check_packages, read_sources
from scriptorium.operations.copies import Prepared
from scriptorium.settings import current
from scriptorium.stores import Packaging
from scriptorium.workspace.space import Space
from tasks.retry import RETRIED


@task(name="archive", task_run_name="archive {plan.label}", **RETRIED)
def read(plan: BackupPlan, staged: Sequence[Staged], folder: Path, space: Space) -> Prepared:
    """Read the staged sources once, into the packages for all stores."""
    return read_sources(current(), plan, staged, folder, space)


@task(name="verify", task_run_name="verify {prepared.label}", **RETRIED)
def check(prepared: Prepared) -> Mapping[Packaging, Verification]:
    """Read the packages back and compare every hash."""
    return check_packages(prepared)
