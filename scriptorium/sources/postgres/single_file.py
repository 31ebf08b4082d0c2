"""Writes one database to one file and restores it, in the formats of ``pg_dump``.

The file is written under another name in the same folder, and renamed when it is complete. The format of a file that is
restored is recognised by its first bytes, not by its name. It is loaded in one transaction: an error changes nothing.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from scriptorium import process, wording
from scriptorium.errors import NoSpace, ToolFailed, UsageError
from scriptorium.fs import atomic
from scriptorium.fs.system_errors import advice, reason_of
from scriptorium.progress import Advance
from scriptorium.sources.postgres.connection import Address
from scriptorium.sources.postgres.dump.contents import check_complete, contents, require_ends
from scriptorium.sources.postgres.dump.snapshot import DumpOptions, bytes_as_they_are, plain_environment
from scriptorium.sources.postgres.fingerprint import relations, require_readable
from scriptorium.sources.postgres.limits import fitting_jobs
from scriptorium.sources.postgres.locks import naming_holders, patient_program, patient_session
from scriptorium.sources.postgres.programs import find, major_of
from scriptorium.sources.postgres.progress import measured
from scriptorium.sources.postgres.restore.constraints import OPTION, RestoreNotes
from scriptorium.sources.postgres.restore.examination import examine_dump, examine_script
from scriptorium.sources.postgres.restore.pg_restore import Restorer
from scriptorium.sources.postgres.restore.psql import (
    APPLICATION,
    judge,
    recognise,
    require_complete,
    run_script,
    schemas,
)
from scriptorium.sources.postgres.restore.requirements import require, required
from scriptorium.sources.postgres.restore.staging import restorer_for
from scriptorium.sources.postgres.rights import require_readable_objects
from scriptorium.sources.postgres.stall_watch import StallWatch, size_of
from scriptorium.umask import make_folders

log = logging.getLogger(__name__)

FORMATS = {"custom": "c", "sql": "p", "directory": "d"}


def backup(
    address: Address,
    file: Path,
    *,
    format: str = "custom",
    compress: int = 6,
    options: DumpOptions,
    advance: Advance | None = None,
) -> int:
    """Write the database to ``file`` (a folder for ``directory``); returns its bytes. An existing one is replaced.

    ``compress``: 0 to 9; an SQL file is compressed only if its name ends in ``.gz``. ``advance`` is called with the
    bytes written.
    """
    if format not in FORMATS:
        raise UsageError(f"'{format}' is not a format", hint=f"allowed: {', '.join(FORMATS)}")
    if not 0 <= compress <= 9:
        raise UsageError(f"{compress} is not a level of compression", hint="0 (none) to 9 (slowest)")
    _require_place(file, format)
    level = compress if format != "sql" or file.suffix == ".gz" else 0
    application = f"{APPLICATION} {secrets.token_hex(4)}"
    with patient_session(address, options.lock_timeout) as session:
        major = major_of(session.info.server_version)
        require_readable(relations(session), address)
        require_readable_objects(session, address)
        encoding = bytes_as_they_are(session)
        jobs = fitting_jobs(session, options.jobs)  # pg_dump's leading process takes this connection
    program = find("pg_dump", major, tools=options.tools)
    log.info("%s is dumped by %s, format %s, compression %d", address, program.path, format, level)
    argv = [program.path, f"--format={FORMATS[format]}", f"--compress={level}", "--no-password", *encoding]
    argv += [f"--lock-wait-timeout={int(options.lock_timeout * 1000)}"]
    argv += [f"--jobs={jobs}"] if format == "directory" else []
    with atomic.beside(file) as partial:
        with naming_holders(address, application), measured(lambda: size_of(partial), advance):
            try:
                target = [f"--file={partial}", f"--dbname={address.of_child(application)}"]
                _run([*argv, *target], address, application, options.stall_timeout, lambda: size_of(partial))
            except NoSpace as error:
                raise NoSpace(error.what, on=str(file.parent), hint="free some space there") from error
        _check(partial, format, options, major, level)
        if format == "directory":  # pg_dump has brought its files to the disk
            if file.is_dir():
                shutil.rmtree(file)
        else:
            partial.chmod(0o600)
            atomic.sync_file(partial)
    log.info("%s was dumped to %s, %s", address, file, wording.size(size_of(file)))
    return size_of(file)


def _require_place(file: Path, format: str) -> None:
    """``UsageError`` if the file cannot be made, or if something else has its name."""
    try:
        make_folders(file.parent)
    except OSError as error:
        raise UsageError(
            f"its folder cannot be made: {reason_of(error)}",
            on=str(file),
            hint=advice(error, file) or "name another place",
        ) from error
    if format == "directory" and file.is_dir():
        if any(file.iterdir()) and not (file / "toc.dat").is_file():
            raise UsageError("the folder contains something else than a dump", on=str(file), hint="name another one")
    elif file.exists() and (format == "directory" or not file.is_file()):
        wanted = "a folder" if format == "directory" else "a file"
        raise UsageError(f"something that is not {wanted} has this name", on=str(file), hint="choose another one")


def _check(partial: Path, format: str, options: DumpOptions, major: int, level: int) -> None:
    """Check that the dump is complete."""
    if format == "sql":
        require_complete(partial)
    elif format == "directory":
        check_complete(partial, restorer_for(partial, major, options.tools), (), level=level)
    elif not contents(partial, restorer_for(partial, major, options.tools)):
        raise ToolFailed("the dump is empty", on=partial.name)


def restore(
    address: Address,
    file: Path,
    *,
    clean: bool = False,
    without_roles: bool = False,
    without_broken: bool = False,
    lenient: bool = False,
    trusted: bool = False,
    options: DumpOptions,
    advance: Advance | None = None,
) -> tuple[str, ...]:
    """Restore a dump of any format into the database, in one transaction; returns warnings.

    The file may be made by anybody: ``UnsafeArchive`` names statements that would reach beyond the database, unless the
    file is ``trusted``. Commands of psql are never run.

    ``clean``: replaces existing objects; without it an existing object is an error. ``without_broken``: constraints
    that do not hold are left out, and returned by name; ``lenient``: the same, if the file's format allows it.
    ``advance`` is called with the bytes read. Raises ``DamageFound`` for an incomplete file, before anything is
    changed.
    """
    kind = recognise(file)
    log.info("%s is a file of the kind %s; it is loaded into %s in one transaction", file.name, kind, address)
    if kind == "dump":
        return _load_dump(
            address,
            file,
            clean=clean,
            without_roles=without_roles,
            without_broken=without_broken or lenient,
            trusted=trusted,
            options=options,
            advance=advance,
        )
    if without_broken:
        raise UsageError(
            f"SQL runs unchanged: {OPTION} can leave nothing out of it",
            on=str(file),
            hint="dump it in the custom format: pg_dump --format=custom, or database backup",
        )
    _run_script(address, file, clean=clean, trusted=trusted, options=options, advance=advance)
    return ()


def _load_dump(
    address: Address,
    file: Path,
    *,
    clean: bool,
    without_roles: bool,
    without_broken: bool,
    trusted: bool,
    options: DumpOptions,
    advance: Advance | None,
) -> tuple[str, ...]:
    """Load a dump with ``pg_restore``; returns what was left out."""
    with address.session() as session:
        major = major_of(session.info.server_version)
        program = restorer_for(file, major, options.tools)
        require_ends(file)
        examine_dump(file, program, foreign=True, trusted=trusted)
        lacking = require(session, required(file, program), address, without=without_roles)
    notes = RestoreNotes()
    restorer = Restorer(
        program,
        address,
        major,
        1,
        lacking.switches,
        options.stall_timeout,
        lacking.left_out,
        without_broken=without_broken,
        notes=notes,
    )
    restorer.whole(file, clean=clean, lock_timeout=options.lock_timeout, advance=advance)
    return tuple(notes.warnings)


def _run_script(
    address: Address, file: Path, *, clean: bool, trusted: bool, options: DumpOptions, advance: Advance | None
) -> None:
    """Run SQL with ``psql``, once it is known to be complete and harmless."""
    require_complete(file)
    examined = examine_script(file, foreign=True, trusted=trusted)
    with address.session() as session:
        major = major_of(session.info.server_version)
        emptying = schemas(session) if clean else None
    application = f"{APPLICATION} {secrets.token_hex(4)}"
    with patient_program(address, application, options.lock_timeout):
        run_script(
            file,
            address,
            major,
            options.tools,
            examined,
            emptying=emptying,
            advance=advance,
            application=application,
            stall_timeout=options.stall_timeout,
        )


def _run(
    argv: Sequence[str],
    address: Address,
    application: str,
    stall_timeout: float,
    written: Callable[[], int | None] = lambda: 0,
) -> None:
    def watch(child: process.Child) -> StallWatch:
        return StallWatch(child, Path(argv[0]).name, address, application, stall_timeout, written=written)

    environment = plain_environment(address, application)
    outcome = process.run(argv, env=environment, secrets=address.secrets, check=False, watch=watch)
    judge(argv, outcome.status, outcome.stderr, address)
