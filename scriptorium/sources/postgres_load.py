"""A PostgreSQL database on its way back, into a folder or beside the living database.

Beside it: the dump goes into ``<name>_restore_<id>``, is compared, and takes the living name in one transaction; the
former database stays as ``<name>_before_restore_<time>``. Into a folder: only files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from scriptorium.crashpoints import reach
from scriptorium.errors import LibraryBusy, RestoreFailed, SourceUnavailable, ToolFailed
from scriptorium.model import Finding, Part, Rows, TableFacts
from scriptorium.sources import postgres_databases as databases
from scriptorium.sources.postgres_connection import Address, Row, quoted, sql
from scriptorium.sources.postgres_facts import read_facts, relations
from scriptorium.sources.postgres_pieces import JOINED
from scriptorium.sources.postgres_programs import major_of
from scriptorium.sources.postgres_properties import Dressing, from_dump, like, own_script
from scriptorium.sources.postgres_requirements import require, required
from scriptorium.sources.postgres_restore import Restorer
from scriptorium.sources.postgres_script import run_script
from scriptorium.sources.postgres_statements import answers
from scriptorium.sources.postgres_unpacked import (
    Target,
    Unpacked,
    below,
    is_script,
)

if TYPE_CHECKING:
    import psycopg


class DatabaseFiles:
    """The dump as files in a folder, for ``pg_restore`` by hand or elsewhere."""

    answers: Mapping[str, Rows] = MappingProxyType({})

    def __init__(self, part: Part, into: Path) -> None:
        self._part = part
        self._into = into

    def prepare(self) -> None: ...

    def receive(self, member: str) -> Path | None:
        return self._into / member if below(member, self._part.path) is not None else None

    def load(self) -> Mapping[str, TableFacts] | None:
        return None

    def switch(self) -> None: ...

    def undo(self) -> None: ...

    def finish(self) -> None: ...


class BesideIncoming(Unpacked):
    """Restored beside the living database and switched in by renaming."""

    def __init__(self, part: Part, target: Target, restore_id: str) -> None:
        super().__init__(part, target, restore_id)
        self._dressing: Dressing | None = None
        self._new = databases.named(target.name, f"_restore_{restore_id}")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._dressing.warnings) if self._dressing else ()

    @property
    def _switching(self) -> Path:
        """There from just before the switch: without it, and without a mark, the living database is as it was."""
        return self._folder / "switching"

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

    def load(self) -> Mapping[str, TableFacts] | None:
        dump, address = self._dump(), self._target.address
        new, options = address.of(self._new), self._target.options
        if is_script(dump):
            tables = self._run_script(dump, new)
        else:
            # Joined pieces have no index: several processes would each search through all of it.
            jobs = 1 if dump.name == JOINED else self._target.jobs
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
        self._drop_dump()  # the former data may be kept for days, and what lies here is in the archive
        return tables

    def check(self) -> tuple[Finding, ...]:
        from scriptorium.sources.postgres_check import check

        return check(self._target.address.of(self._new), tools=self._target.options.tools).findings

    def _fill(self, dump: Path, new: Address, jobs: int) -> Mapping[str, TableFacts]:
        address = self._target.address
        with address.maintenance() as session:
            major = major_of(session.info.server_version)
            program = self._program(dump, major)
            gone = not databases.exists(session, address.words["dbname"])
            needed = required(dump, program, itself=gone)
            lacking = require(session, needed, address, without=self._target.without_roles)
            self._make(session, lambda: own_script(dump, program))
        reach("database.created")
        limit = self._target.options.stall_timeout
        restorer = Restorer(program, new, major, jobs, lacking.switches, limit, lacking.left_out)
        return restorer.beside(dump, self._part.tables)

    def _run_script(self, script: Path, new: Address) -> Mapping[str, TableFacts]:
        with self._target.address.maintenance() as session:
            major = major_of(session.info.server_version)
            self._make(session, None)
        options = self._target.options
        run_script(script, new, major, options.tools, stall_timeout=options.stall_timeout)
        with new.session() as session:
            session.execute("ANALYZE")
            return read_facts(session, relations(session), expected=self._part.tables).tables

    def _make(self, session: psycopg.Connection[Row], script: Callable[[], bytes] | None) -> None:
        """The new database, empty: like the living one, else as the dump says (``script``), else the server's own."""
        model = self._target.address.words["dbname"]
        databases.drop(session, self._new)
        reach("database.before-create")
        if databases.exists(session, model):
            self._dressing = like(session, self._new, model)
        elif script is not None:
            self._dressing = from_dump(session, self._new, script())
        else:
            session.execute(sql(f"CREATE DATABASE {quoted(self._new)} TEMPLATE template0"))
        if self._dressing is not None:
            self._dressing.before_data(session)

    def switch(self) -> None:
        address, name = self._target.address, self._target.name
        self._switching.touch()
        reach("database.before-switch")
        with address.maintenance() as session:
            if not databases.exists(session, self._new):
                raise RestoreFailed("the restored database is not there", on=self._new)
            if self._dressing is not None:
                self._dressing.after_data(session, self._new)
            renames, former = [(self._new, name)], None
            if databases.exists(session, name):
                self._require_free(self._target.elsewhere)
                former = databases.free_former_name(session, name, datetime.now(UTC))
                renames.insert(0, (name, former))
            comment = databases.comment_of(session, self._new)
            mark = databases.Mark(self._restore, former, comment).written()
            databases.switch(session, address, renames, (name, mark))
            reach("database.switched")

    def undo(self) -> None:
        address, name = self._target.address, self._target.name
        try:
            with address.maintenance() as session:
                mark = databases.Mark.of(session, name)
                if mark is not None and mark.restore == self._restore:
                    renames = [(name, self._new), *([(mark.former, name)] if mark.former else [])]
                    reach("database.before-back")
                    databases.switch(session, address, renames, (self._new, None))
                    reach("database.back")
                databases.drop(session, self._new)
        except SourceUnavailable:
            if self._switching.exists():
                raise
            # The living database was never touched; what lies beside it goes with the next restore or cleanup.
        self._drop_folder()

    def finish(self) -> None:
        name = self._target.name
        with self._target.address.maintenance() as session:
            mark = databases.Mark.of(session, name)
            if mark is not None:
                databases.set_comment(session, name, mark.comment)
                reach("database.unmarked")
            for former in databases.former_databases(session, name)[self._target.former :]:
                databases.drop(session, former)
        reach("database.finished")
        self._drop_folder()
