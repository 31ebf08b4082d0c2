"""The restore of a PostgreSQL database, into a folder or beside the living database.

Beside it: the dump is loaded into ``<name>_restore_<id>`` and compared; the new database gets the living name in one
transaction; the previous database is kept as ``<name>_before_restore_<time>``. Into a folder: only files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from scriptorium.errors import LibraryBusy, RestoreFailed, SourceUnavailable, ToolFailed
from scriptorium.failpoints import reach
from scriptorium.fs.previous import Kept, Previous, Whereabouts
from scriptorium.model import Finding, Part, Rows, TableFingerprint
from scriptorium.sources.postgres import databases
from scriptorium.sources.postgres.connection import Address, Row, quoted, sql
from scriptorium.sources.postgres.dump.pieces import JOINED
from scriptorium.sources.postgres.previous import drop_surplus, kept, whereabouts
from scriptorium.sources.postgres.programs import major_of
from scriptorium.sources.postgres.properties import DatabaseProperties, from_dump, like, own_script
from scriptorium.sources.postgres.records import Record, Records, begun, name_of, number_of, system_of
from scriptorium.sources.postgres.restore.comparison import fingerprints_now, not_compared
from scriptorium.sources.postgres.restore.constraints import RestoreNotes
from scriptorium.sources.postgres.restore.pg_restore import Restorer
from scriptorium.sources.postgres.restore.psql import run_script
from scriptorium.sources.postgres.restore.requirements import require, required
from scriptorium.sources.postgres.restore.staging import (
    Target,
    Unpacked,
    below,
    is_script,
)
from scriptorium.sources.postgres.restore.subscriptions import not_made, staying
from scriptorium.sources.postgres.statements import answers
from scriptorium.sources.postgres.toc import is_tar

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)


class DatabaseFiles:
    """The dump as files in a folder, for a restore by hand or on another machine."""

    answers: Mapping[str, Rows] = MappingProxyType({})
    loader = "pg_restore"

    def __init__(self, part: Part, into: Path) -> None:
        self._part = part
        self._into = into

    def prepare(self) -> None: ...

    def receive(self, member: str) -> Path | None:
        return self._into / member if below(member, self._part.path) is not None else None

    def load(self) -> Mapping[str, TableFingerprint] | None:
        return None

    def switch(self) -> None: ...

    def undo(self) -> None: ...

    def finish(self) -> None: ...


class BesideIncoming(Unpacked):
    """Restored beside the living database, which it replaces by renaming."""

    def __init__(self, part: Part, target: Target, restore_id: str) -> None:
        super().__init__(part, target, restore_id)
        self._properties: DatabaseProperties | None = None
        self._notes = RestoreNotes()
        self._new = databases.named(target.name, f"_restore_{restore_id}")
        self._records = Records(target.records)

    @property
    def warnings(self) -> tuple[str, ...]:
        properties = self._properties.warnings if self._properties else ()
        return (*properties, *self._notes.warnings, *not_compared(self._notes.rebuilt))

    @property
    def missing_fingerprints(self) -> Mapping[str, str]:
        return self._notes.missing

    @property
    def rebuilt_views(self) -> Mapping[str, str]:
        return self._notes.rebuilt

    def prepare(self) -> None:
        self.undo()
        with self._target.address.maintenance() as session:
            databases.require_creating(session, self._target.address)
            if self._target.elsewhere:
                self._require_free(databases.exists(session, self._target.name))
        self._make_folder()

    def _require_free(self, taken: bool) -> None:
        if taken:
            raise ToolFailed(
                "the database to restore to already exists",
                on=self._target.name,
                hint="choose another name, or restore into it with --clean",
            )

    def load(self) -> Mapping[str, TableFingerprint] | None:
        dump, address = self._dump(), self._target.address
        new, options = address.of(self._new), self._target.options
        if is_script(dump):
            tables = self._run_script(dump, new)
        else:
            # Joined pieces have no index: each process would search the whole dump. A tar allows only one process.
            alone = dump.name == JOINED or (dump.is_file() and is_tar(dump))
            jobs = 1 if alone else self._target.jobs
            try:
                tables = self._fill(dump, new, jobs)
            except (
                LibraryBusy
            ):  # two of them locked each other out: indexes of one table for CLUSTER and for replication
                if jobs == 1:
                    raise
                tables = self._fill(dump, new, 1)
        with new.session() as session:
            self.answers = answers(session, options.statements)
        self._drop_dump()  # this folder may be kept for days with the previous data, and the dump is in the archive
        return tables

    def check(self) -> tuple[Finding, ...]:
        from scriptorium.sources.postgres.check import check

        return check(self._target.address.of(self._new), tools=self._target.options.tools).findings

    def _fill(self, dump: Path, new: Address, jobs: int) -> Mapping[str, TableFingerprint]:
        address = self._target.address
        with address.maintenance() as session:
            major = major_of(session.info.server_version)
            program = self._program(dump, major)
            self._examined(dump, program)
            gone = not databases.exists(session, address.words["dbname"])
            needed = required(dump, program, itself=gone)
            lacking = require(session, needed, address, without=self._target.without_roles)
            self._make(session, lambda: own_script(dump, program))
        log.info("%s: the dump is loaded into %s by %s, %d jobs", self._target.name, self._new, program.path, jobs)
        reach("database.created")
        limit = self._target.options.stall_timeout
        self._notes = RestoreNotes(warnings=list(not_made(dump)))
        # If nothing living is replaced, restoring all rows is more important than a constraint that they break.
        without = self._target.without_broken or gone or self._target.elsewhere
        restorer = Restorer(
            program,
            new,
            major,
            jobs,
            lacking.switches,
            limit,
            lacking.left_out,
            without_broken=without,
            notes=self._notes,
        )
        return restorer.beside(dump, self._part.tables)

    def _run_script(self, script: Path, new: Address) -> Mapping[str, TableFingerprint]:
        examined = self._examined(script)
        with self._target.address.maintenance() as session:
            major = major_of(session.info.server_version)
            self._make(session, None)
        options = self._target.options
        run_script(script, new, major, options.tools, examined, stall_timeout=options.stall_timeout)
        with new.session() as session:
            session.execute("ANALYZE")
            found = fingerprints_now(session, self._part.tables or {})
        self._notes.missing.update(found.missing)
        self._notes.rebuilt.update(found.rebuilt)
        return found.tables

    def _make(self, session: psycopg.Connection[Row], script: Callable[[], bytes] | None) -> None:
        """Make the new database, empty: like the living one; if there is none, as the dump says (``script``); else with
        the server's defaults."""
        model = self._target.address.words["dbname"]
        databases.drop(session, self._new)
        record = self._records.write(
            begun(self._restore, self._part.source, system_of(session), self._target.name, self._new)
        )
        reach("database.before-create")
        if databases.exists(session, model):
            self._properties = like(session, self._new, model, self._target.address)
        elif script is not None:
            self._properties = from_dump(session, self._new, script())
        else:
            session.execute(sql(f"CREATE DATABASE {quoted(self._new)} TEMPLATE template0"))
        self._records.write(record.now(made=number_of(session, self._new)))
        if self._properties is not None:
            self._properties.before_data(session)

    def switch(self) -> None:
        address, name = self._target.address, self._target.name
        with address.maintenance() as session:
            record, made = self._records.read(self._restore, self._part.source), number_of(session, self._new)
            if record is None or made is None:
                raise RestoreFailed("the restored database is not there", on=self._new)
            if self._properties is not None:
                self._properties.after_data(session, self._new, address.of(self._new))
            renames, previous = [(self._new, name)], None
            replaced = number_of(session, name)
            if replaced is not None:
                self._require_free(self._target.elsewhere)
                previous = databases.free_name(session, name, datetime.now(UTC))
                renames.insert(0, (name, previous))
                self._notes.warnings += staying(session, replaced, previous)
            self._records.write(record.now(made=made, replaced=replaced, previous=previous, stage="switching"))
            reach("database.before-switch")
            then = {name: made} if previous is None or replaced is None else {name: made, previous: replaced}
            databases.switch(session, address, renames, then)
            log.info("%s is the restored database now; the previous one is %s", name, previous or "none")
            reach("database.switched")

    def undo(self) -> None:
        record = self._records.read(self._restore, self._part.source)
        try:
            with self._target.address.maintenance() as session:
                if record is None:
                    self._undo_marked(session)
                elif record.stage != "stands":  # a finished restore is not undone
                    self._require_server(session, record)
                    if record.stage == "switching":
                        self._put_back(session, record)
                    self._drop_new(session, record)
                    self._records.remove(record)
        except SourceUnavailable:
            if record is None or record.stage != "loading":
                raise
            # The living database was not changed. The new one is removed by the next restore or cleanup.
        self._drop_folder()

    def returned(self) -> bool:
        return False  # what is back is recognised by its number, whatever is written to it

    def put_back(self) -> None:
        self.undo()

    def _require_server(self, session: psycopg.Connection[Row], record: Record) -> None:
        if record.system not in ("", system_of(session)):
            raise RestoreFailed(
                "another server answers than the one that was restored to",
                on=str(self._target.address),
                hint=f"the previous database is {record.previous or 'none'}; let the settings name its server again",
            )

    def _put_back(self, session: psycopg.Connection[Row], record: Record) -> None:
        """Give the previous database its name again; a database that has this name now is renamed."""
        name, here = record.database, number_of(session, record.database)
        if here == record.replaced:
            return  # never switched, or already undone
        renames, then = [], {}
        if here is not None:
            ours = here == record.made
            if not ours and record.replaced is None:
                raise RestoreFailed("a database that no restore made has this name now", on=name)
            displaced = (
                record.new if ours else databases.free_name(session, name, datetime.now(UTC), databases.DISPLACED)
            )
            renames.append((name, displaced))
            then[displaced] = here
        if record.replaced is not None:
            if record.previous is None or number_of(session, record.previous) != record.replaced:
                raise RestoreFailed(_lost(session, record), on=name, hint="the safety backup: scriptorium list")
            renames.append((record.previous, name))
            then[name] = record.replaced
        reach("database.before-back")
        databases.switch(session, self._target.address, renames, then)
        log.info("%s: the database that the restore replaced has its name again", name)
        reach("database.back")

    @staticmethod
    def _drop_new(session: psycopg.Connection[Row], record: Record) -> None:
        # without a number: the name contains the restore's id
        if record.made in (None, number_of(session, record.new)):
            log.info("%s is dropped: an undone restore had made it", record.new)
            databases.drop(session, record.new)

    def _undo_marked(self, session: psycopg.Connection[Row]) -> None:
        """Undo a restore of an earlier version, which recorded it in the database's comment."""
        name = self._target.name
        mark = databases.Mark.of(session, name)
        if mark is not None and mark.restore == self._restore:
            renames = [(name, self._new), *([(mark.previous, name)] if mark.previous else [])]
            databases.switch(session, self._target.address, renames, {})
            databases.set_comment(session, self._new, mark.comment)
        databases.drop(session, self._new)

    def plan(self) -> Kept:
        """Nothing: the record identifies the databases by their numbers, and ``undo`` checks these."""
        return {}

    def kept(self) -> Kept:
        record = self._records.read(self._restore, self._part.source)
        if record is None:
            raise RestoreFailed("the record of the restored database is gone", on=self._target.name)
        return kept(record)

    def previous(self, kept: Kept) -> Previous:
        with self._target.address.maintenance() as session:
            if kept:
                return whereabouts(session, kept)
            mark = databases.Mark.of(session, self._target.name)
            there = mark is not None and mark.restore == self._restore
            return Previous(Whereabouts.ASIDE if there else Whereabouts.BACK, "put aside" if there else "not recorded")

    def finish(self) -> None:
        record = self._records.read(self._restore, self._part.source)
        with self._target.address.maintenance() as session:
            mark = databases.Mark.of(session, self._target.name) if record is None else None
            if mark is not None and mark.restore == self._restore:
                databases.set_comment(session, self._target.name, mark.comment)
            if record is not None:
                self._require_server(session, record)
                self._records.write(record.now(stage="stands"))
                reach("database.stands")
            drop_surplus(session, self._records, self._target.name, self._target.previous)
        reach("database.finished")
        self._drop_folder()


def _lost(session: psycopg.Connection[Row], record: Record) -> str:
    called = name_of(session, record.replaced) if record.replaced is not None else None
    if called is None:
        return f"the previous database {record.previous} is no longer there"
    return f"the previous database {record.previous} was renamed to {called}"
