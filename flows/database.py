"""Write one database to one file, and load it from one: for users who want only a dump."""

from __future__ import annotations

import time

from prefect import flow

from flows.runs import given, publish
from scriptorium.report.database import database_backup_report, database_restore_report
from scriptorium.requests import AnyDatabaseFormat, DatabaseBackupRequest, DatabaseRestoreRequest, Level
from scriptorium.words import DatabaseFormat
from tasks.database import dump, load


@flow(name="database-backup", flow_run_name=lambda: f"dump the database to {given()['file']}", persist_result=False)
def database_backup(
    file: str,
    library: str | None = None,
    source: str | None = None,
    format: AnyDatabaseFormat = DatabaseFormat.CUSTOM,
    compress: Level = 6,
) -> int:
    """Write a library's PostgreSQL database to one file; returns its bytes.

    Args:
        file: The file to write; its folder is created.
        library: A name from the settings; not needed when there is only one.
        source: The database, if the library has several.
        format: What pg_dump calls custom, plain (sql) or directory.
        compress: 0 (none) to 9.
    """
    request, began = DatabaseBackupRequest(**locals()), time.monotonic()
    size = dump(request)
    publish(database_backup_report(request, size, time.monotonic() - began))
    return size


@flow(name="database-restore", flow_run_name=lambda: f"load the database from {given()['file']}", persist_result=False)
def database_restore(
    file: str,
    library: str | None = None,
    source: str | None = None,
    clean: bool = False,
    trust: bool = False,
    without_broken_constraints: bool = False,
) -> tuple[str, ...]:
    """Load a library's PostgreSQL database from one file, in one transaction; returns what is not as the file has it.

    Args:
        file: A file that database-backup or pg_dump wrote.
        library: A name from the settings; not needed when there is only one.
        source: The database, if the library has several.
        clean: Replace what is there; without it, only an empty database is loaded.
        trust: The file may hold statements that reach the server's machine.
        without_broken_constraints: Leave out constraints that the rows break, and name them.
    """
    request, began = DatabaseRestoreRequest(**locals()), time.monotonic()
    warnings = load(request)
    publish(database_restore_report(request, warnings, time.monotonic() - began))
    return warnings
