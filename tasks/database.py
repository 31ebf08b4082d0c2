"""Write one database to one file, and load it from one."""

from __future__ import annotations

from prefect import task
from prefect.runtime import task_run

from scriptorium.operations.database import database_backup, database_restore
from scriptorium.requests import DatabaseBackupRequest, DatabaseRestoreRequest
from scriptorium.settings import current
from scriptorium.wording import legible
from tasks.retry import ONCE, RETRIED


def _dumping() -> str:
    return legible(f"dump to {task_run.parameters['request'].file}")


def _loading() -> str:
    return legible(f"load {task_run.parameters['request'].file}")


@task(name="dump", task_run_name=_dumping, **RETRIED)
def dump(request: DatabaseBackupRequest) -> int:
    """Write the database to one file; returns its size in bytes."""
    return database_backup(current(), request)


@task(name="load", task_run_name=_loading, **ONCE)
def load(request: DatabaseRestoreRequest) -> tuple[str, ...]:
    """Load the database from one file, in one transaction; returns what is not as the file has it."""
    return database_restore(current(), request)
