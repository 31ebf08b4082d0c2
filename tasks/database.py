"""One database to one file, and back."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.runtime import task_run

from scriptorium.operations.database import backup_database, database_of, restore_database
from scriptorium.settings import current
from scriptorium.wording import legible
from tasks.progress import moving
from tasks.retry import ONCE, RETRIED


def _dumping() -> str:
    return legible(f"dump to {task_run.parameters['file']}")


def _loading() -> str:
    return legible(f"load {task_run.parameters['file']}")


@task(name="dump", task_run_name=_dumping, **RETRIED)
def dump(library: str | None, source: str | None, file: Path, format: str, compress: int) -> int:
    """Write the database to one file; returns its size in bytes."""
    with moving("dumping") as advance:
        database = database_of(current().library(library), source)
        return backup_database(database, file, format=format, compress=compress, advance=advance)


@task(name="load", task_run_name=_loading, **ONCE)
def load(library: str | None, source: str | None, file: Path, clean: bool, trust: bool = False) -> None:
    """Bring the database back from one file, in one transaction."""
    with moving("loading") as advance:
        database = database_of(current().library(library), source)
        restore_database(database, file, clean=clean, trusted=trust, advance=advance)
