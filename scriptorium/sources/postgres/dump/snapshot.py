"""One snapshot of a database, held until everything has been read from it.

A repeatable-read transaction locks every table (ACCESS SHARE: readers and writers are not blocked), exports its
snapshot for ``pg_dump``, and reads every table itself: rows, fingerprints, answers to the preset's statements.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import process, wording
from scriptorium.errors import SnapshotBusy
from scriptorium.failpoints import reach
from scriptorium.model import Rows, TableFingerprint
from scriptorium.sources.postgres.connection import Address, Row, sql
from scriptorium.sources.postgres.dump.pieces import PIECE
from scriptorium.sources.postgres.fingerprint import Relation, relations, require_readable, take_fingerprints
from scriptorium.sources.postgres.limits import require_one_more
from scriptorium.sources.postgres.locks import naming_holders
from scriptorium.sources.postgres.programs import Program, find, major_of
from scriptorium.sources.postgres.rights import extensions_in, require_readable_objects
from scriptorium.sources.postgres.statements import answers

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

_TRIES = 5


@dataclass(frozen=True, slots=True)
class DumpOptions:
    """``jobs``: processes of pg_dump. The timeouts are in seconds (``stall_timeout``: also for pg_restore and psql).
    ``tools``: a folder with pg_dump. ``piece``: bytes of one piece of a streamed dump."""

    jobs: int = 1
    lock_timeout: float = 60.0
    statement_timeout: float = 0.0
    tools: Path | None = None
    statements: Mapping[str, str] = field(default_factory=dict)
    piece: int = PIECE
    stall_timeout: float = 900.0


@dataclass(frozen=True, slots=True)
class SnapshotContents:
    """What was read from a snapshot: the fingerprints of its tables, warnings, the answers to the statements, and which
    tables have no fingerprint, with the reason."""

    tables: Mapping[str, TableFingerprint]
    warnings: tuple[str, ...]
    answers: Mapping[str, Rows]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that is held: every table is locked, and ``session`` reads the exported ``snapshot``.

    ``address`` names the ``database``; ``engine`` is the server's version, ``major`` its major version; ``encoding``:
    switches for the programs, see ``bytes_as_they_are``; ``extensions``: those of the database.
    """

    address: Address
    options: DumpOptions
    application: str
    session: psycopg.Connection[Row]
    snapshot: str
    found: tuple[Relation, ...]
    engine: str
    major: int
    dumper: Program
    restorer: Program
    began: datetime
    encoding: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()

    @property
    def database(self) -> str:
        return self.address.words["dbname"]

    @property
    def tables(self) -> list[int]:
        """The oids of the tables whose rows must be in a dump."""
        return [one.oid for one in self.found if one.kind == "r"]

    def command(self, *more: str) -> list[str]:
        """The command of ``pg_dump`` for this snapshot, without compression."""
        wait = f"--lock-wait-timeout={int(self.options.lock_timeout * 1000)}"
        words = ["--compress=0", f"--snapshot={self.snapshot}", "--no-password", wait, *self.encoding]
        return [self.dumper.path, *more, *words, f"--dbname={self.address.of_child(self.application)}"]

    def read(self, between: Callable[[str], None]) -> SnapshotContents:
        """Read every table, and run the source's statements. ``between`` is called with each name before its scan."""
        taken = take_fingerprints(self.session, self.found, between=between)
        answered = answers(self.session, self.options.statements)
        return SnapshotContents(taken.tables, taken.warnings, answered, taken.missing)


def bytes_as_they_are(session: psycopg.Connection[Row]) -> list[str]:
    """Switches of pg_dump for a database that is not in UTF-8: the dump is in the database's own encoding. The server
    refuses to convert bytes that have no equivalent in UTF-8."""
    own = session.info.parameter_status("server_encoding") or "UTF8"
    return [] if own == "UTF8" else [f"--encoding={own}"]


def plain_environment(address: Address, application: str) -> dict[str, str]:
    """The environment of pg_dump. It writes literals as its session does, and the database or the role may have
    standard_conforming_strings off."""
    options = (process.variable("PGOPTIONS") or "", "-c standard_conforming_strings=on -c statement_timeout=0")
    return address.environment(application) | {"PGOPTIONS": " ".join(options).strip()}


@contextlib.contextmanager
def held(address: Address, options: DumpOptions) -> Iterator[Snapshot]:
    """Hold one snapshot while the block runs. ``SnapshotBusy`` names the sessions that hold a needed lock."""
    began = datetime.now(UTC)
    application = f"scriptorium dump {secrets.token_hex(4)}"
    with naming_holders(address, application), address.session(application=application) as session:
        yield _held(session, address, options, application, began)


def _held(
    session: psycopg.Connection[Row], address: Address, options: DumpOptions, application: str, began: datetime
) -> Snapshot:
    major = major_of(session.info.server_version)
    version = session.info.parameter_status("server_version") or str(major)
    dumper = find("pg_dump", major, tools=options.tools)
    restorer = find("pg_restore", dumper.version[0], tools=options.tools)
    found = _hold_still(session, address, options)
    with session.transaction(force_rollback=True):
        require_readable_objects(session, address)
    require_one_more(session, address, "pg_dump")
    reach("dump.held")
    row = session.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    kinds = [one.kind for one in found]
    log.info(
        "%s: snapshot of %d tables taken, all locks acquired in %s (server %s, pg_dump %s)",
        session.info.dbname,
        kinds.count("r"),
        wording.duration((datetime.now(UTC) - began).total_seconds()),
        version,
        ".".join(map(str, dumper.version)),
    )
    return Snapshot(
        address=address.of(session.info.dbname),
        options=options,
        application=application,
        session=session,
        snapshot=str(row[0]),
        found=found,
        engine=version.split(" ")[0],
        major=major,
        dumper=dumper,
        restorer=restorer,
        began=began,
        encoding=tuple(bytes_as_they_are(session)),
        extensions=tuple(sorted(extensions_in(session))),
    )


def _hold_still(session: psycopg.Connection[Row], address: Address, options: DumpOptions) -> tuple[Relation, ...]:
    """Begin the transaction, and lock every table before its snapshot is taken: a TRUNCATE or a rewrite after the
    snapshot would remove rows from it. Returns the relations as of the snapshot."""
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
            log.info("%s: a table was dropped before it was locked; trying again", session.info.dbname)
            session.execute("ROLLBACK")
            continue
        if {one.oid for one in now if one.kind == "r"} == {one.oid for one in tables}:
            require_readable(now, address)
            return now
        log.info("%s: tables were made or dropped while they were locked; trying again", session.info.dbname)
        session.execute("ROLLBACK")
    raise SnapshotBusy(
        "tables are made and dropped faster than they can be locked", on=str(address), hint="try again later"
    )
