"""Write one database to one file, load it from one, check it: the work of the command ``database``."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from scriptorium.catalog.run_progress import recorded
from scriptorium.errors import UsageError
from scriptorium.manifest import new_id
from scriptorium.model import Health
from scriptorium.progress import Advance, step
from scriptorium.requests import DatabaseBackupRequest, DatabaseRestoreRequest
from scriptorium.settings import Library, Settings
from scriptorium.sources.abilities import dumpable, living_path
from scriptorium.sources.optional import Dumpable
from scriptorium.words import Role
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)


def database_of(library: Library, name: str | None = None) -> Dumpable:
    """The library's PostgreSQL database. ``UsageError`` if it has none, or several and ``name`` is not given."""
    able = [one for source in library.sources if (one := dumpable(source)) is not None]
    found = [source for source in able if name in (None, source.name)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(source.name for source in found)
        raise UsageError("the library has several databases", on=library.name, hint=f"name one: {names}")
    raise UsageError(
        "the library has no PostgreSQL database" + (f" named {name}" if name else ""),
        on=library.name,
        hint="a Kuzu database is backed up by: create --type database",
    )


def database_backup(settings: Settings, request: DatabaseBackupRequest, *, advance: Advance | None = None) -> int:
    """The whole recipe without Prefect; returns the bytes of the file."""
    library = settings.library(request.library)
    database = database_of(library, request.source)
    with (
        contained(),
        recorded(settings, new_id(), "database backup", library.name),
        step("dumping to", request.file, also=advance) as advance,
    ):
        return backup_database(
            database, Path(request.file), format=request.format, compress=request.compress, advance=advance
        )


def database_restore(
    settings: Settings, request: DatabaseRestoreRequest, *, advance: Advance | None = None
) -> tuple[str, ...]:
    """The whole recipe without Prefect; returns warnings: what differs from the file."""
    library = settings.library(request.library)
    database = database_of(library, request.source)
    with (
        contained(),
        recorded(settings, new_id(), "database restore", library.name),
        step("loading", request.file, also=advance) as advance,
    ):
        return restore_database(
            database,
            Path(request.file),
            clean=request.clean,
            without_broken=request.without_broken_constraints,
            trusted=request.trust,
            advance=advance,
        )


def backup_database(
    source: Dumpable, file: Path, *, format: str = "custom", compress: int = 6, advance: Advance | None = None
) -> int:
    """Write the database to one file; returns the file's bytes. ``advance`` is called with the bytes written."""
    return source.dump_to(file, format=format, compress=compress, advance=advance)


def restore_database(
    source: Dumpable,
    file: Path,
    *,
    clean: bool = False,
    without_broken: bool = False,
    trusted: bool = False,
    advance: Advance | None = None,
) -> tuple[str, ...]:
    """Load the database from one file, in one transaction; returns warnings. ``clean``: replace existing objects.
    ``without_broken``: leave out constraints that do not hold. ``trusted``: the file may contain statements that reach
    the server's machine."""
    how = ", ".join(word for word, chosen in (("clean", clean), ("trusted", trusted)) if chosen)
    log.info("%s is loaded from %s%s", source.name, file, f" ({how})" if how else "")
    warnings = source.load_from(file, clean=clean, without_broken=without_broken, trusted=trusted, advance=advance)
    for warning in warnings:
        log.warning("%s: %s", source.name, warning)
    return warnings


def check_database(source: Dumpable, library: Library | None = None) -> Health:
    """Check whether the database is sound. With its ``library``, its rows are compared with the library's files too."""
    folders = [living_path(one) for one in (library.sources if library else ()) if one.role is Role.FILES]
    folder = next((folder for folder in folders if folder is not None), None)
    began = time.monotonic()
    log.info("%s is checked, %s", source.name, f"with the files in {folder}" if folder else "without files")
    health = source.health(folder)
    log.info("%s was checked in %.1f s: %d findings", source.name, time.monotonic() - began, len(health.findings))
    return health
