"""A PostgreSQL database on its way back.

Beside the living one: the dump goes into ``<name>_restore_<id>``, is compared, and takes the living name in one
transaction; the former database stays as ``<name>_before_restore_<time>``. In place, for roles that may not create
databases: one transaction replaces everything, after a dump of what was there. Into a folder: only files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from scriptorium import process
from scriptorium.crashpoints import reach
from scriptorium.errors import DamageFound, NoSpace, RestoreFailed, SourceUnavailable, ToolFailed, ToolMissing
from scriptorium.model import Part, Rows, TableFacts
from scriptorium.sources import postgres_databases as databases
from scriptorium.sources.postgres_connection import Address, Row, quoted, sql
from scriptorium.sources.postgres_contents import is_too_short
from scriptorium.sources.postgres_dump import GLOBALS, PART, DumpFacts, plain_size, take
from scriptorium.sources.postgres_errors import in_our_words
from scriptorium.sources.postgres_facts import Relation, read_facts, relations
from scriptorium.sources.postgres_moment import DumpOptions
from scriptorium.sources.postgres_pieces import JOINED, join
from scriptorium.sources.postgres_programs import Program, find, major_of
from scriptorium.sources.postgres_requirements import Requirements, require, required
from scriptorium.sources.postgres_restore import Restorer
from scriptorium.sources.postgres_script import recognise, require_complete, run_script
from scriptorium.sources.postgres_statements import answers

if TYPE_CHECKING:
    import psycopg

_TABLE_OF_CONTENTS = "toc.dat"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a restore goes and how: ``address`` of the living database, its ``name``; ``jobs`` of pg_restore."""

    address: Address
    name: str
    staging: Path
    options: DumpOptions
    jobs: int
    former: int
    without_roles: bool
    elsewhere: bool


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


class _Staged:
    """The folder that the archive's members are unpacked into, and what is known of the dump in it."""

    answers: Mapping[str, Rows] = MappingProxyType({})

    def __init__(self, part: Part, target: Target, restore_id: str) -> None:
        self._part = part
        self._target = target
        self._restore = restore_id
        self._folder = target.staging / f"scriptorium-restore-{os.geteuid()}-{restore_id}-{part.source}"

    def receive(self, member: str) -> Path | None:
        inside = below(member, self._part.path)
        return None if inside is None else self._folder / "part" / inside

    def _make_folder(self) -> None:
        self._drop_folder()
        self._folder.mkdir(parents=True, mode=0o700)
        (self._folder / "part").mkdir(mode=0o700)

    def _drop_folder(self) -> None:
        if self._folder.is_symlink() or (self._folder.exists() and self._folder.stat().st_uid != os.geteuid()):
            raise RestoreFailed("this folder is not ours", on=str(self._folder), hint="set 'staging' to another folder")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _dump(self) -> Path:
        part = self._folder / "part"
        for folder in part.iterdir():
            if folder.is_dir():
                join(folder)
        return dump_in(part, self._part.path)

    def _program(self, dump: Path, server_major: int) -> Program:
        return restorer_for(dump, server_major, self._target.options.tools)


class BesideIncoming(_Staged):
    """Restored beside the living database and switched in by renaming."""

    def __init__(self, part: Part, target: Target, restore_id: str) -> None:
        super().__init__(part, target, restore_id)
        self._new = databases.named(target.name, f"_restore_{restore_id}")

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
            with address.maintenance() as session:
                major = major_of(session.info.server_version)
                program = self._program(dump, major)
                lacking = require(session, required(dump, program), address, without=self._target.without_roles)
                self._make(session, lambda: creation(dump, program))
            reach("database.created")
            # Joined pieces have no index: several processes would each search through all of it.
            jobs = 1 if dump.name == JOINED else self._target.jobs
            tables = Restorer(program, new, major, jobs, lacking.switches).beside(dump, self._part.tables)
        with new.session() as session:
            self.answers = answers(session, options.statements)
        return tables

    def _run_script(self, script: Path, new: Address) -> Mapping[str, TableFacts]:
        with self._target.address.maintenance() as session:
            major = major_of(session.info.server_version)
            self._make(session, None)
        run_script(script, new, major, self._target.options.tools)
        with new.session() as session:
            session.execute("ANALYZE")
            return read_facts(session, relations(session), expected=self._part.tables).tables

    def _make(self, session: psycopg.Connection[Row], script: Callable[[], str] | None) -> None:
        """The new database, empty: like the living one, else as the dump says (``script``), else the server's own."""
        model = self._target.address.words["dbname"]
        databases.drop(session, self._new)
        reach("database.before-create")
        if databases.exists(session, model):
            databases.create_like(session, self._new, model)
            databases.set_comment(session, self._new, databases.dress_like(session, self._new, model))
        elif script is not None:
            databases.create_from(session, self._new, script())
        else:
            session.execute(sql(f"CREATE DATABASE {quoted(self._new)} TEMPLATE template0"))

    def switch(self) -> None:
        address, name = self._target.address, self._target.name
        self._switching.touch()
        reach("database.before-switch")
        with address.maintenance() as session:
            if not databases.exists(session, self._new):
                raise RestoreFailed("the restored database is not there", on=self._new)
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


class InPlaceIncoming(_Staged):
    """Restored into the living database in one transaction, after a dump of what is in it."""

    @property
    def _former(self) -> Path:
        return self._folder / "former"

    @property
    def _replaced(self) -> Path:
        """There from just before the transaction that replaces the data."""
        return self._folder / "replaced"

    def prepare(self) -> None:
        self.undo()
        self._make_folder()

    def load(self) -> Mapping[str, TableFacts] | None:
        """What can be known before the living data is touched; what is restored is compared in ``switch``."""
        dump = self._dump()
        with self._target.address.session() as session:
            if not is_script(dump):
                program = self._program(dump, major_of(session.info.server_version))
                require(session, required(dump, program), self._target.address, without=self._target.without_roles)
            self._require_room(relations(session))
        self._former.mkdir(mode=0o700)
        reach("inplace.before-saving")
        take(self._target.address, self._former, self._target.options)
        return self._part.tables

    def _require_room(self, living: Sequence[Relation]) -> None:
        """What is replaced is dumped first, so that there is a way back."""
        needed, free = plain_size(living), shutil.disk_usage(self._folder).free
        if needed > free:
            raise NoSpace(
                f"the dump of what is replaced needs about {needed:,} bytes, there are {free:,}",
                on=str(self._folder),
                hint="free some room, or set 'staging' to a folder on a larger disk",
            )

    def switch(self) -> None:
        self._replaced.touch()
        reach("inplace.before-replacing")
        self._replace(self._dump())
        reach("inplace.replaced")
        expected = self._part.tables
        if expected is None:
            return
        with self._target.address.session() as session:
            found = read_facts(session, relations(session), expected=expected).tables
        wrong = [name for name, facts in expected.items() if found.get(name) != facts]
        if wrong:
            raise DamageFound(
                "the restored database is not what was backed up", on=self._part.source, hint=", ".join(wrong[:5])
            )

    def _replace(self, dump: Path) -> None:
        address = self._target.address
        with address.session() as session:
            major = major_of(session.info.server_version)
            if is_script(dump):
                schemas = sorted({one.schema for one in relations(session)} | {"public"})
                run_script(dump, address, major, self._target.options.tools, emptying=schemas)
                return
            program = self._program(dump, major)
            lacking = Requirements()
            if self._target.without_roles:
                lacking = require(session, required(dump, program), address, without=True)
        Restorer(program, address, major, 1, lacking.switches).whole(dump)

    def undo(self) -> None:
        if self._replaced.exists() and self._now() != DumpFacts.read(self._former / "facts.json").tables:
            reach("inplace.before-back")
            self._drop_what_came()
            self._replace(dump_in(self._former / PART, self._target.name))
            reach("inplace.back")
        self._drop_folder()

    def _drop_what_came(self) -> None:
        """What the restore brought and the former dump will not replace, because it does not know it."""
        before = DumpFacts.read(self._former / "facts.json").tables
        with self._target.address.session() as session, in_our_words(self._target.address), session.transaction():
            came = [one for one in relations(session) if one.name not in before]
            for kind, word in (("r", "TABLE"), ("m", "MATERIALIZED VIEW"), ("S", "SEQUENCE")):
                for one in came:
                    if one.kind == kind:
                        session.execute(sql(f"DROP {word} IF EXISTS {one.sql} CASCADE"))
            session.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")  # all of the former ones come back

    def _now(self) -> Mapping[str, TableFacts]:
        """What the living database holds: where the transaction was rolled back, that is what it held before."""
        expected = DumpFacts.read(self._former / "facts.json").tables
        with self._target.address.session() as session:
            return read_facts(session, relations(session), expected=expected).tables

    def finish(self) -> None:
        self._drop_folder()


def below(member: str, at: str) -> str | None:
    """The member's path below ``at``, or ``None`` when it is not there."""
    if member == at:
        return ""
    return member[len(at) + 1 :] if member.startswith(f"{at}/") else None


def dump_in(folder: Path, on: str) -> Path:
    """The dump in a folder: whatever has a table of contents, the joined pieces of one that was streamed, else one file
    that some other program's pg_dump wrote.

    ``RestoreFailed`` when there is none.
    """
    found = [folder] if (folder / _TABLE_OF_CONTENTS).is_file() else []
    found += [path.parent for path in sorted(folder.glob(f"*/{_TABLE_OF_CONTENTS}"))]
    found += sorted(folder.glob(f"*/{JOINED}"))
    found += [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != GLOBALS]
    if not found:
        raise RestoreFailed("the backup brought no database", on=on)
    return found[0]


def is_script(dump: Path) -> bool:
    """Whether it is SQL, for psql. ``DamageFound`` when it is not whole, or neither SQL nor a dump."""
    if dump.is_dir() or recognise(dump) != "sql":
        return False
    require_complete(dump)
    return True


def restorer_for(dump: Path, server_major: int, tools: Path | None, *, whole: bool = True) -> Program:
    """The ``pg_restore`` that fits the server and can read the dump, which a newer pg_dump may have written. Not
    ``whole``: of the dump only its beginning is there."""
    program = find("pg_restore", server_major, tools=tools)
    while True:
        listed = process.run([program.path, "--list", str(dump)], env={"LC_ALL": "C"}, check=False, timeout=600)
        if listed.status == 0 or (not whole and is_too_short(listed.stderr)):
            return program
        if "unsupported version" not in listed.stderr:
            raise DamageFound(
                f"the dump cannot be read: {listed.stderr.strip()[-200:]}", on=str(dump), hint="try another copy"
            )
        try:
            program = find("pg_restore", program.version[0] + 1, tools=tools)
        except ToolMissing as error:
            raise DamageFound(
                f"the dump is damaged, or was made by a newer pg_dump than {program} can read",
                on=str(dump),
                hint=error.hint,
            ) from error


def creation(dump: Path, program: Program) -> str:
    """The statements that make the dump's database itself."""
    script = process.run([program.path, "--create", "--schema-only", "--file=-", str(dump)], timeout=600).stdout
    return script.decode("utf-8", "replace")


def default_staging() -> Path:
    return Path(tempfile.gettempdir())
