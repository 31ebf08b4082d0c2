"""One moment of a database: its dump, and the facts of every table from the very same snapshot.

A repeatable-read transaction locks every table (ACCESS SHARE: it hinders no reader and no writer), exports its
snapshot, hands it to ``pg_dump``, and computes the facts itself meanwhile. ``pg_dump``'s own compression is what makes
dumps slow, so it writes plain files which the archive compresses once; where the disk is too short for that, it
compresses after all.

In the stage: ``part/<database>/`` (pg_dump's directory format), ``part/globals.sql`` where the role may read it, and
``facts.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import process
from scriptorium.crashpoints import reach
from scriptorium.errors import NoSpace, ScriptoriumError, SnapshotBusy, SourceUnavailable, ToolFailed
from scriptorium.model import Rows, TableFacts
from scriptorium.sources.postgres_connection import Address, Row, sql
from scriptorium.sources.postgres_contents import check_complete, sequence_values
from scriptorium.sources.postgres_errors import in_our_words, worded
from scriptorium.sources.postgres_facts import Relation, read_facts, relations, require_readable
from scriptorium.sources.postgres_locks import LockWatch
from scriptorium.sources.postgres_programs import Program, find, major_of
from scriptorium.sources.postgres_statements import answers

if TYPE_CHECKING:
    import psycopg

PART = "part"
_TRIES = 5
_PLAIN_FACTOR = 1.5  # text is larger than what the server keeps compressed; measured 0.95 on book-like data
_SPARE = 64 << 20


@dataclass(frozen=True, slots=True)
class DumpOptions:
    """``jobs``: processes of pg_dump; ``lock_timeout`` in seconds; ``tools``: a folder with pg_dump."""

    jobs: int = 1
    lock_timeout: float = 60.0
    statement_timeout: float = 0.0
    tools: Path | None = None
    statements: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DumpFacts:
    """What is known of a dump; kept beside it as ``facts.json``."""

    database: str
    engine_version: str
    method: str
    started_at: datetime
    finished_at: datetime
    tables: Mapping[str, TableFacts]
    warnings: tuple[str, ...] = ()
    answers: Mapping[str, Rows] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        words = asdict(self) | {"started_at": self.started_at.isoformat(), "finished_at": self.finished_at.isoformat()}
        file.write_text(json.dumps(words), "utf-8")

    @classmethod
    def read(cls, file: Path) -> DumpFacts:
        words = json.loads(file.read_text("utf-8"))
        tables = {name: TableFacts(**facts) for name, facts in words.pop("tables").items()}
        began, ended = (datetime.fromisoformat(words.pop(key)) for key in ("started_at", "finished_at"))
        warnings = tuple(words.pop("warnings"))
        said = {name: tuple(tuple(row) for row in rows) for name, rows in words.pop("answers").items()}
        return cls(**words, started_at=began, finished_at=ended, tables=tables, warnings=warnings, answers=said)


def take(address: Address, stage: Path, options: DumpOptions) -> DumpFacts:
    """Dump the database into the empty folder ``stage``; on any error the folder is empty again."""
    application = f"scriptorium dump {secrets.token_hex(4)}"
    try:
        with LockWatch(address, application) as watch:
            try:
                facts = _take(address, stage, options, application)
            except SnapshotBusy as error:
                held = f"held by {watch.seen}" if watch.seen else error.hint
                raise SnapshotBusy(error.what, on=error.on, hint=held) from error
        reach("dump.before-facts")
        facts.write(stage / "facts.json")
        return facts
    except BaseException:
        for left in stage.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        raise


def _take(address: Address, stage: Path, options: DumpOptions, application: str) -> DumpFacts:
    started = datetime.now(UTC)
    part = stage / PART
    part.mkdir(mode=0o700)
    with address.session(application=application) as session:
        major = major_of(session.info.server_version)
        program = find("pg_dump", major, tools=options.tools)
        restorer = find("pg_restore", program.version[0], tools=options.tools)
        found = _hold_still(session, address, options)
        reach("dump.held")
        row = session.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        database = session.info.dbname
        dump = part / file_name(database)
        level = _compression(sum(one.size for one in found), stage)
        argv = [
            *(program.path, "--format=directory", f"--jobs={options.jobs}", f"--compress={level}", "--no-sync"),
            *(f"--snapshot={row[0]}", "--no-password", f"--lock-wait-timeout={int(options.lock_timeout * 1000)}"),
            *(f"--file={dump}", f"--dbname={address.of(database).plain}"),
        ]
        with _pg_dump(argv, address, stage, application, session) as still_well:
            reach("dump.begun")
            facts = read_facts(session, found, between=still_well)
            said = answers(session, options.statements)
        reach("dump.ended")
        version = session.info.parameter_status("server_version") or str(major)
    entries = check_complete(dump, restorer, [one.oid for one in found if one.kind == "r"], level=level)
    tables = dict(facts.tables)
    sequences = {(one.schema, one.table): one.name for one in found if one.kind == "S"}
    for names, value in sequence_values(dump, restorer, entries).items():
        if names in sequences:  # they know no snapshot: what counts is what the dump holds
            tables[sequences[names]] = value
    warnings = [*facts.warnings, *_globals(address.of(database), part / "globals.sql", major, options)]
    method = f"pg_dump {program.version[0]}.{program.version[1]}, one snapshot" + (", compressed" if level else "")
    engine, ended = version.split(" ")[0], datetime.now(UTC)
    return DumpFacts(database, engine, method, started, ended, tables, tuple(warnings), said)


def _hold_still(session: psycopg.Connection[Row], address: Address, options: DumpOptions) -> tuple[Relation, ...]:
    """Begin the transaction with every table locked before its snapshot is taken: a TRUNCATE or a rewrite in between
    would make rows vanish from it. Returns the relations as of the snapshot."""
    session.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(options.lock_timeout * 1000)}ms",))
    timeout = f"{int(options.statement_timeout * 1000)}ms"
    session.execute("SELECT set_config('statement_timeout', %s, false)", (timeout,))
    import psycopg

    for _ in range(_TRIES):
        found = relations(session)
        require_readable(found, address)
        tables = [one for one in found if one.kind == "r"]
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            if tables:
                session.execute(sql(f"LOCK TABLE ONLY {', ONLY '.join(t.sql for t in tables)} IN ACCESS SHARE MODE"))
            now = relations(session)
        except psycopg.errors.UndefinedTable:
            session.execute("ROLLBACK")
            continue
        if {one.oid for one in now if one.kind == "r"} == {one.oid for one in tables}:
            require_readable(now, address)
            return now
        session.execute("ROLLBACK")
    raise SnapshotBusy("tables come and go faster than they can be locked", on=str(address), hint="try again later")


def _compression(size: int, stage: Path) -> int:
    """0, or 1 where the disk is too short for plain files. ``NoSpace`` where it is too short for both."""
    free = shutil.disk_usage(stage).free - _SPARE
    if size * _PLAIN_FACTOR <= free:
        return 0
    if size <= free:
        return 1
    raise NoSpace(
        f"the dump needs about {size:,} bytes, there are {max(free, 0):,}",
        on=str(stage),
        hint="free some room, or set 'workspace' to a larger disk",
    )


@contextlib.contextmanager
def _pg_dump(
    argv: Sequence[str],
    address: Address,
    stage: Path,
    application: str,
    session: psycopg.Connection[Row],
) -> Iterator[Still]:
    """Run pg_dump beside the block; leaving the block waits for its end. What it says in failing goes before what the
    block says: a lost server is seen by both."""
    log = os.fdopen(os.memfd_create("pg_dump"), "w+b")  # in memory: the disk may be what is wrong
    child = process.start(argv, env=address.environment(application), stdout=log.fileno(), stderr=log.fileno())
    over = threading.Event()
    guard = threading.Thread(target=_guard, args=(child, session, over), daemon=True, name="pg_dump guard")
    guard.start()
    try:
        try:
            with in_our_words(address, secrets=address.secrets):
                yield Still(child)
            status = child.wait()
        except ScriptoriumError as error:
            status = child.poll() or 0
            if status == 0 or isinstance(error, SourceUnavailable):
                raise
        finally:
            over.set()
            guard.join(timeout=10)
        if status != 0:
            log.seek(0)
            raise _failure(status, log.read().decode("utf-8", "replace"), stage, address)
    finally:
        process.end(child)
        log.close()


class Still:
    """Called between tables: ends the work early when pg_dump has already failed."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    def __call__(self, table: str) -> None:
        if self._child.poll() not in (None, 0):
            raise ToolFailed("pg_dump failed", on=table)


def _guard(child: process.Child, session: psycopg.Connection[Row], over: threading.Event) -> None:
    """A long scan need not be waited for when pg_dump has failed."""
    while not over.wait(0.2):
        if child.poll() not in (None, 0):
            session.cancel()
            return


def _failure(status: int, said: str, stage: Path, address: Address) -> ScriptoriumError:
    lines = [line for line in said.splitlines() if "error:" in line or "FATAL" in line] or said.splitlines()
    text = lines[0] if lines else ""
    if status < 0 or not text:
        return process.failure(["pg_dump"], status, said, address.secrets)
    error = worded(text, address, secrets=address.secrets)
    if isinstance(error, NoSpace):
        free = shutil.disk_usage(stage).free
        return NoSpace(error.what, on=str(stage), hint=f"{free:,} bytes are free there; a larger disk: 'workspace'")
    if type(error) is ToolFailed:
        return ToolFailed(f"pg_dump failed: {error.what}", on=error.on, hint=process.mask(said[-400:], address.secrets))
    return error


def _globals(address: Address, file: Path, major: int, options: DumpOptions) -> list[str]:
    """Roles and tablespaces; their password hashes only where the role may read them. Returns warnings."""
    last = ""
    for more in ([], ["--no-role-passwords"]):
        try:
            program: Program = find("pg_dumpall", major, tools=options.tools)
            name = address.words.get("dbname", "")
            argv = [program.path, "--globals-only", *more, "--no-password", f"--file={file}", f"--database={name}"]
            argv += [f"--dbname={address.plain}", f"--lock-wait-timeout={int(options.lock_timeout * 1000)}"]
            process.run(argv, env=address.environment(), timeout=120, secrets=address.secrets)
            file.chmod(0o600)
            return ["globals.sql holds the roles without their passwords"] if more else []
        except ScriptoriumError as error:
            last = error.what
            file.unlink(missing_ok=True)
    return [f"roles and tablespaces are not in the backup: {last}"]


def file_name(database: str) -> str:
    """A database's name as one step of a path."""
    plain = database.replace("%", "%25").replace("/", "%2F")
    return plain if plain not in (".", "..", "globals.sql") else f"%{plain}"
