"""A dump of one snapshot of a database, with its fingerprints, on the disk.

``pg_dump`` does not compress, because its compression is slow; the archive is compressed once. ``take`` makes
``part/<database>/`` (pg_dump's directory format), ``part/globals.sql`` if the role may read it, and ``facts.json``.
``stream.py`` writes the same snapshot into an archive without a copy on the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scriptorium import process, wording
from scriptorium.errors import NoSpace, ScriptoriumError, SourceUnavailable, ToolFailed
from scriptorium.failpoints import reach
from scriptorium.fs.free_space import free_bytes
from scriptorium.manifest import decoded, encoded
from scriptorium.model import Provenance, Rows, TableFingerprint
from scriptorium.sources.postgres.connection import Address, Row
from scriptorium.sources.postgres.dump.contents import check_complete, sequence_values
from scriptorium.sources.postgres.dump.snapshot import (
    DumpOptions,
    Snapshot,
    SnapshotContents,
    held,
    plain_environment,
)
from scriptorium.sources.postgres.errors import in_one_line, translated, translating_errors
from scriptorium.sources.postgres.fingerprint import Relation
from scriptorium.sources.postgres.limits import fitting_jobs
from scriptorium.sources.postgres.programs import find
from scriptorium.sources.postgres.stall_watch import StallWatch, size_of

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

PART = "part"
RECORD = "facts.json"  # the name since the first version: an undo reads it
GLOBALS = "globals.sql"
_ERROR_LINE = re.compile(r"error:|FATAL|message from server:")
_PLAIN_FACTOR = 1.5  # text is larger than what the server keeps compressed; measured 0.95 on book-like data


@dataclass(frozen=True, slots=True)
class DumpRecord:
    """The properties of a dump; stored beside it in the file ``RECORD``."""

    database: str
    engine_version: str
    method: str
    started_at: datetime
    finished_at: datetime
    tables: Mapping[str, TableFingerprint]
    warnings: tuple[str, ...] = ()
    answers: Mapping[str, Rows] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    def completed(
        self,
        snapshot: Snapshot,
        seen: SnapshotContents,
        sequences: Mapping[tuple[str, str], TableFingerprint],
        warnings: tuple[str, ...],
    ) -> DumpRecord:
        """The record with the contents of the snapshot. Sequences belong to no snapshot: their values are the
        dump's."""
        names = {(one.schema, one.table): one.name for one in snapshot.found if one.kind == "S"}
        tables = {**seen.tables, **{names[key]: fingerprint for key, fingerprint in sequences.items() if key in names}}
        more, now = (*seen.warnings, *warnings), datetime.now(UTC)
        missing = {name: why for name, why in seen.missing.items() if name not in tables}
        took = wording.duration((now - self.started_at).total_seconds())
        log.info(
            "%s: %s, done in %s; %d tables and sequences have fingerprints, %d have none",
            *(self.database, self.method, took, len(tables), len(missing)),
        )
        return replace(self, finished_at=now, tables=tables, warnings=more, answers=seen.answers, missing=missing)

    def write(self, file: Path) -> None:
        words = asdict(self) | {"started_at": self.started_at.isoformat(), "finished_at": self.finished_at.isoformat()}
        file.write_bytes(encoded(words))

    @classmethod
    def read(cls, file: Path) -> DumpRecord:
        words: dict[str, Any] = decoded(file.read_bytes(), "record of a dump").raw
        tables = {name: TableFingerprint(**fingerprint) for name, fingerprint in words.pop("tables").items()}
        began, ended = (datetime.fromisoformat(words.pop(key)) for key in ("started_at", "finished_at"))
        warnings = tuple(words.pop("warnings"))
        provenance = words.pop("provenance")
        made = Provenance(**{**provenance, "extensions": tuple(provenance.get("extensions", ()))})
        answers = {name: tuple(tuple(row) for row in rows) for name, rows in words.pop("answers").items()}
        words |= {"started_at": began, "finished_at": ended}
        return cls(**words, tables=tables, warnings=warnings, answers=answers, provenance=made)


def take(address: Address, stage: Path, options: DumpOptions) -> DumpRecord:
    """Dump the database into the empty folder ``stage``. After an error the folder is empty again."""
    try:
        record = _take(address, stage, options)
        reach("dump.before-fingerprints")
        record.write(stage / RECORD)
        return record
    except BaseException:
        empty(stage)
        raise


def empty(stage: Path) -> None:
    """Remove everything in the folder."""
    for left in stage.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _take(address: Address, stage: Path, options: DumpOptions) -> DumpRecord:
    part = stage / PART
    part.mkdir(mode=0o700)
    with held(address, options) as snapshot:
        dump = part / file_name(snapshot.database)
        jobs = fitting_jobs(snapshot.session, options.jobs, leader=1)
        command = snapshot.command("--format=directory", f"--jobs={jobs}", "--no-sync", f"--file={dump}")
        with dumping(snapshot, command, stage, lambda: size_of(dump)) as child:
            reach("dump.begun")
            seen = snapshot.read(FailureCheck(child))
        reach("dump.ended")
    entries = check_complete(dump, snapshot.restorer, snapshot.tables)
    sequences = sequence_values(dump, snapshot.restorer, entries)
    return described(snapshot).completed(snapshot, seen, sequences, save_globals(snapshot, part))


def described(snapshot: Snapshot, *, streamed: bool = False) -> DumpRecord:
    """The record of a dump before anything is read."""
    dumper = ".".join(map(str, snapshot.dumper.version))
    method = f"pg_dump {dumper}, one snapshot{', streamed' if streamed else ''}"
    made = Provenance(streamed=streamed, dumper=dumper, extensions=snapshot.extensions)
    return DumpRecord(snapshot.database, snapshot.engine, method, snapshot.began, snapshot.began, {}, provenance=made)


def plain_size(found: Iterable[Relation]) -> int:
    """How many bytes a dump of the relations may have: the server stores them compressed, the dump does not."""
    return int(sum(one.size for one in found) * _PLAIN_FACTOR)


@contextlib.contextmanager
def dumping(
    snapshot: Snapshot,
    command: Sequence[str],
    stage: Path,
    written: Callable[[], int | None],
    *,
    stdout: int | None = None,
) -> Iterator[process.Child]:
    """Run pg_dump while the block runs; at the end of the block, wait for it. If both fail, pg_dump's error is raised,
    because both fail when the server is lost. ``written``: see ``StallWatch``. ``stdout``: where its output goes; by
    default to the same file as its messages."""
    address, session = snapshot.address, snapshot.session
    messages = os.fdopen(os.memfd_create("pg_dump"), "w+b")  # in memory: the disk may be the problem
    where = messages.fileno() if stdout is None else stdout
    child = process.start(
        command, env=plain_environment(address, snapshot.application), stdout=where, stderr=messages.fileno()
    )
    limit, ours = snapshot.options.stall_timeout, session.info.backend_pid
    try:
        with StallWatch(child, "pg_dump", address, snapshot.application, limit, written=written, own_pid=ours):
            try:
                with _guarded(child, session), translating_errors(address, secrets=address.secrets):
                    yield child
                    status = child.wait()
            except ScriptoriumError as error:
                status = child.poll() or 0
                if status == 0 or isinstance(error, SourceUnavailable):
                    raise
            if status != 0:
                messages.seek(0)
                raise _failure(status, messages.read().decode("utf-8", "replace"), stage, address)
    finally:
        process.end(child)
        messages.close()


class FailureCheck:
    """Called between tables: raises an error if pg_dump has already failed."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    def __call__(self, table: str) -> None:
        if self._child.poll() not in (None, 0):
            raise ToolFailed("pg_dump failed", on=table)


@contextlib.contextmanager
def _guarded(child: process.Child, session: psycopg.Connection[Row]) -> Iterator[None]:
    """When pg_dump fails, cancel the statement that the session runs in the block: it may take long."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            if child.poll() not in (None, 0):
                session.cancel()
                return

    guard = threading.Thread(target=look, daemon=True, name="pg_dump guard")
    guard.start()
    try:
        yield
    finally:
        over.set()
        guard.join(timeout=10)


def _failure(status: int, messages: str, stage: Path, address: Address) -> ScriptoriumError:
    lines = [line for line in messages.splitlines() if _ERROR_LINE.search(line)] or messages.splitlines()
    if status < 0 or not lines:
        return process.failure(["pg_dump"], status, messages, address.secrets)
    errors = [translated(line, address, secrets=address.secrets) for line in lines]
    error = next((one for one in errors if type(one) is not ToolFailed), errors[0])  # the server's message comes last
    if isinstance(error, NoSpace):
        free = free_bytes(stage)
        return NoSpace(error.what, on=str(stage), hint=f"{free:,} bytes are free there; a larger disk: 'workspace'")
    if type(error) is ToolFailed:
        return ToolFailed(f"pg_dump failed: {error.what}", on=error.on, hint=in_one_line(messages, address.secrets))
    return error


def save_globals(snapshot: Snapshot, folder: Path) -> tuple[str, ...]:
    """Save roles and tablespaces, with password hashes if the role may read them. Returns warnings."""
    address, options, file = snapshot.address, snapshot.options, folder / GLOBALS
    last = ""
    for more in ([], ["--no-role-passwords"]):
        try:
            program = find("pg_dumpall", snapshot.major, tools=options.tools)
            name = address.words.get("dbname", "")
            argv = [
                program.path,
                "--globals-only",
                *more,
                "--no-password",
                *snapshot.encoding,
                f"--file={file}",
                f"--database={_as_one_word(name)}",
            ]
            argv += [f"--dbname={address.plain}", f"--lock-wait-timeout={int(options.lock_timeout * 1000)}"]
            environment = plain_environment(address, "scriptorium")
            process.run(argv, env=environment, timeout=120, secrets=address.secrets)
            file.chmod(0o600)
            return ("globals.sql contains the roles without their passwords",) if more else ()
        except ScriptoriumError as error:
            last = error.what
            log.info("%s: pg_dumpall%s failed: %s", snapshot.database, " without passwords" if more else "", error)
            file.unlink(missing_ok=True)
    return (f"roles and tablespaces are not in the backup: {last}",)


def _as_one_word(database: str) -> str:
    """pg_dumpall would read a name with ``=`` or ``://`` as libpq's words."""
    from psycopg.conninfo import make_conninfo

    return make_conninfo("", dbname=database) if "=" in database or "://" in database else database


def file_name(database: str) -> str:
    """A database's name as the name of a file."""
    plain = database.replace("%", "%25").replace("/", "%2F")
    return plain if plain not in (".", "..", GLOBALS) else f"%{plain}"
