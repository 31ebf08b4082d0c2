"""One database to one file and back: for those who want a dump and no more."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow

from flows.runs import given, publish
from scriptorium import wording
from scriptorium.process import no_child_outlives
from scriptorium.report.runs import Report
from scriptorium.umask import private_files
from tasks.database import dump, load


@flow(name="database-backup", flow_run_name=lambda: f"dump the database to {given()['file']}", persist_result=False)
def database_backup(
    file: str, library: str | None = None, source: str | None = None, format: str = "custom", compress: int = 6
) -> int:
    """Write a library's PostgreSQL database to one file (``format``: custom, sql, directory); returns its bytes."""
    began = time.monotonic()
    with no_child_outlives(), private_files():
        size = dump(library, source, Path(file), format, compress)
    summary = {"file": file, "size": wording.size(size), "took": wording.duration(time.monotonic() - began)}
    publish(Report("database-backup", library or "database", "Database written to one file", summary, ()))
    return size


@flow(name="database-restore", flow_run_name=lambda: f"load the database from {given()['file']}", persist_result=False)
def database_restore(
    file: str, library: str | None = None, source: str | None = None, clean: bool = False, trust: bool = False
) -> None:
    """Bring a library's PostgreSQL database back from one file, in one transaction; ``clean``: over what is there;
    ``trust``: the file may hold statements that reach the server's machine."""
    began = time.monotonic()
    with no_child_outlives(), private_files():
        load(library, source, Path(file), clean, trust)
    summary = {"file": file, "took": wording.duration(time.monotonic() - began)}
    publish(Report("database-restore", library or "database", "Database loaded from one file", summary, ()))
