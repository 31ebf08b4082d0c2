"""A PostgreSQL database: dumped from one snapshot, restored beside the living one, switched by a rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PrivateAttr, SecretStr

from scriptorium.errors import NotFound, SourceUnavailable
from scriptorium.limits import Seconds, SecondsOrNever, SourceName
from scriptorium.model import Holder, Part, Role, Staged, Streams, Survey, Tree
from scriptorium.sources.options import AS_CONFIGURED, RestoreOptions
from scriptorium.sources.postgres.dump.pieces import PIECE
from scriptorium.sources.postgres.login import Login

if TYPE_CHECKING:  # what does the work is loaded when there is work: settings alone are read for every `list`
    from scriptorium.members import Piece
    from scriptorium.sources.postgres.dump.directory import DumpRecord
    from scriptorium.sources.postgres.dump.snapshot import DumpOptions
    from scriptorium.sources.postgres.dump.stream import DumpStream
    from scriptorium.sources.postgres.restore.beside import BesideIncoming, DatabaseFiles
    from scriptorium.sources.postgres.restore.drill import EmbeddedIncoming
    from scriptorium.sources.postgres.restore.in_place import InPlaceIncoming
    from scriptorium.sources.postgres.restore.preflight import Dump
    from scriptorium.sources.postgres.restore.staging import Target

_TOO_MANY_JOBS = 8


def useful_jobs(*, restoring: bool = False) -> int:
    """How many processes help. Of pg_dump: measured in benchmarks/postgres.py, two busy cores gain nothing from two. Of
    pg_restore: one for each core, since a table and an index are each made by one process of the server."""
    cores = os.cpu_count() or 1
    return max(1, min(_TOO_MANY_JOBS, cores if restoring else cores // 2))


_CHOICES = ("in_place", "without_roles", "without_broken_constraints")
_STREAMS = {"auto": Streams.WHERE_SHORT, "stage": Streams.NEVER, "stream": Streams.ALWAYS}


class PostgresSource(Login):
    """``database``: a URL or libpq's words; nothing means libpq's own variables. ``at``: its path in the archive, by
    default the source's name; the dump lies in ``<at>/<database>/``.

    ``dump``: copied into the workspace first ("stage"), which is faster, or read straight into the archive ("stream");
    "auto": streamed where the workspace has no room for the copy.
    ``jobs``: processes of pg_dump and pg_restore (0: as many as help). ``lock_timeout``: seconds to wait for a table
    that is locked. ``statement_timeout``: seconds one table's fingerprint may take (0: no limit).
    ``stall_timeout``: seconds that pg_dump, pg_restore or psql may stand still (0: no limit). ``former``: how many
    databases that a restore replaced are kept. ``tools``: the folder of pg_dump, where it is not found by itself.
    ``without_roles``: restore although roles, tablespaces or extensions are missing. ``without_broken_constraints``:
    restore all rows although they break constraints, which are then left out. ``in_place``: restore into the
    living database in one transaction, for roles that may not create databases. ``target``: restore to this database
    instead. ``staging``: a folder for what a restore unpacks. ``drill``: where a drill restores to, a scratch
    database on the same ``server`` or an ``embedded`` server of its own. ``statements``: queries by name, put to every
    snapshot and to what is restored; a preset's checks read them.
    """

    kind: Literal["postgres"] = "postgres"
    name: SourceName = "postgres"
    at: str = ""
    role: Role = Role.DATABASE
    dump: Literal["auto", "stage", "stream"] = "auto"
    jobs: int = Field(default=0, ge=0, le=64)
    lock_timeout: Seconds = 60.0
    statement_timeout: SecondsOrNever = 0.0
    stall_timeout: SecondsOrNever = 900.0
    former: int = Field(default=1, ge=0, le=1000)
    tools: Path | None = None
    without_roles: bool = False
    without_broken_constraints: bool = False
    in_place: bool = False
    target: str = ""
    staging: Path | None = None
    drill: Literal["server", "embedded"] = "server"
    statements: dict[str, str] = Field(default_factory=dict)

    piece: ClassVar[int] = PIECE
    _scratch: Path | None = PrivateAttr(default=None)

    @property
    def place(self) -> str:
        return self.at or self.name

    @property
    def dump_options(self) -> DumpOptions:
        from scriptorium.sources.postgres.dump.snapshot import DumpOptions

        jobs = self.jobs or useful_jobs()
        return DumpOptions(
            jobs,
            self.lock_timeout,
            self.statement_timeout,
            self.tools,
            self.statements,
            self.piece,
            self.stall_timeout,
        )

    def survey(self, never: tuple[Path, ...]) -> Survey:
        """Sizes on the server's disk; a dump may be larger, where it is text that the server keeps compressed.

        ``SnapshotBusy`` where a table is locked: even its size must wait for that.
        """
        from scriptorium.sources.postgres.dump.directory import plain_size
        from scriptorium.sources.postgres.fingerprint import relations
        from scriptorium.sources.postgres.locks import patient_session

        with patient_session(self.address(), self.lock_timeout) as session:
            found = relations(session)
        total = sum(one.size for one in found)
        return Survey(bytes=total, files=len(found) + 3, staged_bytes=plain_size(found), streams=_STREAMS[self.dump])

    def capture(self, stage: Path) -> None:
        """Dump and fingerprints from one snapshot, into ``stage``; see ``dump/directory.py``."""
        from scriptorium.sources.postgres.dump.directory import take

        take(self.address(), stage, self.dump_options)

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        from scriptorium.sources.postgres.dump.directory import DumpRecord

        return self._staged(DumpRecord.read(stage / "facts.json"), stage)

    def _staged(self, facts: DumpRecord, stage: Path, *, pending: bool = False) -> Staged:
        from scriptorium.sources.postgres.dump.directory import PART

        return Staged(
            source=self.name,
            kind=self.kind,
            path=self.place,
            method=facts.method,
            started_at=facts.started_at,
            finished_at=facts.finished_at,
            trees=(Tree(root=str(stage / PART), at=self.place),),
            engine_version=facts.engine_version,
            tables=facts.tables,
            warnings=facts.warnings,
            answers=facts.answers,
            pending=pending,
            provenance=facts.provenance,
            missing_fingerprints=facts.missing,
        )

    @contextlib.contextmanager
    def stream(self, stage: Path) -> Iterator[PostgresStream]:
        from scriptorium.sources.postgres.dump.stream import streaming

        with streaming(self.address(), stage, self.dump_options) as dump:
            yield PostgresStream(dump, self.place, lambda: self._staged(dump.facts, stage, pending=not dump.ended))

    def incoming(
        self,
        part: Part,
        restore_id: str,
        *,
        into: Path | None = None,
        options: RestoreOptions = AS_CONFIGURED,
        partial: bool = False,
        never: tuple[Path, ...] = (),
    ) -> DatabaseFiles | BesideIncoming | InPlaceIncoming:
        """``partial`` and ``never`` change nothing: a database comes back whole."""
        from scriptorium.sources.postgres.restore.beside import BesideIncoming, DatabaseFiles
        from scriptorium.sources.postgres.restore.in_place import InPlaceIncoming

        if into is not None:
            return DatabaseFiles(part, into)
        chosen = self._with(options)
        return (InPlaceIncoming if chosen.in_place else BesideIncoming)(part, chosen._goal(), restore_id)

    def _with(self, options: RestoreOptions) -> PostgresSource:
        """The same source with the user's word on how it is restored."""
        given = options.postgres
        return self.model_copy(
            update={
                "in_place": self.in_place or given.clean,
                "without_roles": self.without_roles or given.without_roles,
                "without_broken_constraints": self.without_broken_constraints or given.without_broken_constraints,
            }
        )

    def preconditions(self, part: Part, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, Callable[[], str]]:
        """What the dump uses of the server's own is known only from inside the archive: that, too, is said."""
        return self._with(options)._preconditions(part)

    def _preconditions(self, part: Part) -> Mapping[str, Callable[[], str]]:
        from scriptorium.sources.postgres.restore.preflight import Dump

        dump = Dump.of(part)
        found = {
            "server": self._reachable,
            "psql" if dump.script else "pg_restore": lambda: self._restorer(dump),
            "roles, tablespaces, extensions": self._requirements,
            "settings of the database": self._settings,
        }
        return found if self.target else found | {"sessions": self._sessions}

    def _reachable(self) -> str:
        """The server answers, and a database may be made there (but for ``in_place``)."""
        from scriptorium.sources.postgres.databases import require_creating

        address = self.address().resolved()
        with address.maintenance() as session:
            if not self.in_place:
                require_creating(session, address)
            return f"PostgreSQL {session.info.parameter_status('server_version')} answers"

    def _restorer(self, dump: Dump) -> str:
        from scriptorium.sources.postgres.programs import major_of
        from scriptorium.sources.postgres.restore.preflight import restorer_at_hand

        with self.address().resolved().maintenance() as session:
            major = major_of(session.info.server_version)
        return restorer_at_hand(dump, major, self.tools, in_place=self.in_place)

    def _requirements(self) -> str:
        from scriptorium.sources.postgres.rights import closed_extensions, extensions_in

        without = "; it will go on without missing roles and tablespaces" if self.without_roles else ""
        found = f"compared when the dump is unpacked, before anything is replaced{without}"
        address = self.address().resolved()
        try:
            with address.session() as session:
                closed = closed_extensions(session, extensions_in(session))
        except NotFound:
            return found
        if not closed or self.in_place:
            return found
        return f"{found}; the living database has {', '.join(closed)}, which only a superuser can make"

    def _settings(self) -> str:
        from scriptorium.sources.postgres.properties import prospects

        address = self.address().resolved()
        with address.maintenance() as session:
            return prospects(session, address.words["dbname"], in_place=self.in_place)

    def _sessions(self) -> str:
        count, name = len(list(self.holders())), self.address().resolved().words["dbname"]
        then = "they are sent away at the switch"
        if self.in_place:
            then = f"the transaction waits up to {self.lock_timeout:g} s for what they have locked"
        return f"{count} open in {name}; {then}" if count else f"none open in {name}"

    def with_scratch(self, scratch: Path) -> PostgresSource:
        working = self.model_copy(update={} if self.staging is not None else {"staging": scratch})
        working._scratch = scratch
        return working

    def journal_record(self, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, bool | str]:
        chosen = self._with(options)
        return {
            "in_place": chosen.in_place,
            "without_roles": chosen.without_roles,
            "without_broken_constraints": chosen.without_broken_constraints,
            "address": self.address().plain,
        }

    def as_recorded(self, record: Mapping[str, bool | str]) -> PostgresSource:
        given: dict[str, object] = {key: record[key] for key in _CHOICES if key in record}
        address = self.address()
        if record.get("address", address.plain) != address.plain:  # the password is the one that is known now
            given |= {"database": record["address"], "service": "", "password": SecretStr(address.password)}
        return self.model_copy(update=given)

    def tidy(self) -> tuple[str, ...]:
        """Former databases beyond ``former``, and what killed restores were loading. A server that does not answer has
        nothing to say about it."""
        try:
            return (*self.drop_previous(), *self.drop_unfinished())
        except SourceUnavailable:
            return ()

    def renamed(self, name: str) -> PostgresSource:
        return self.model_copy(update={"target": name, "in_place": False})

    def rehearsal(self, part: Part, drill_id: str, scratch: Path) -> BesideIncoming | EmbeddedIncoming:
        """A scratch database on the same server, or on one of the drill's own, dropped at the end."""
        from scriptorium.sources.postgres.restore.drill import EmbeddedIncoming

        if self.drill == "server":
            return self._beside(part, drill_id, scratch)
        return EmbeddedIncoming(part, lambda address: self._on(address)._beside(part, drill_id, scratch))

    def _on(self, address: str) -> PostgresSource:
        """The same database on a bare server: nobody's roles are there."""
        nobody = {"service": "", "password": None, "password_file": None, "password_env": "", "password_command": ()}
        nobody |= {"pooler": "refuse"}
        given = {"database": address, "target": "", "in_place": False, "without_roles": True, "drill": "server"}
        return self.model_copy(update={**nobody, **given})

    def _beside(self, part: Part, drill_id: str, scratch: Path) -> BesideIncoming:
        from scriptorium.sources.postgres.restore.beside import BesideIncoming

        # a drill tells of constraints that do not hold; they are no fault of the backup
        return BesideIncoming(part, replace(self._goal(), staging=scratch, without_broken=True), drill_id)

    def _goal(self) -> Target:
        from scriptorium.sources.postgres.restore.staging import Target, default_staging

        address = self.address().resolved()
        elsewhere = bool(self.target) and self.target != address.words["dbname"]
        if elsewhere and self.in_place:
            address = address.of(self.target)
        return Target(
            address=address,
            name=self.target or address.words["dbname"],
            staging=self.staging or default_staging(),
            records=self._records,
            options=self.dump_options,
            jobs=self.jobs or useful_jobs(restoring=True),
            former=self.former,
            without_roles=self.without_roles,
            elsewhere=elsewhere,
            without_broken=self.without_broken_constraints,
        )

    @property
    def _records(self) -> Path:
        """Where it is recorded which databases restores and drills made, and which they replaced."""
        from scriptorium.sources.postgres.restore.staging import default_staging

        scratch = self._scratch or self.staging
        return (
            scratch / "databases"
            if scratch is not None
            else default_staging() / f"scriptorium-databases-{os.geteuid()}"
        )

    def previous_databases(self) -> tuple[str, ...]:
        """The databases that restores replaced and that are still there, newest first."""
        from scriptorium.sources.postgres.previous import former
        from scriptorium.sources.postgres.records import Records

        address = self.address().resolved()
        with address.maintenance() as session:
            found = former(session, Records(self._records), address.words["dbname"])
            return tuple(str(record.former) for record in found)

    def drop_previous(self, keep: int | None = None) -> tuple[str, ...]:
        """Drop all but the newest ``keep`` (by default ``former``) of them, and none that an undo may still need;
        returns the names of the dropped ones."""
        from scriptorium.sources.postgres.previous import drop_surplus
        from scriptorium.sources.postgres.records import Records

        address = self.address().resolved()
        with address.maintenance() as session:
            name = address.words["dbname"]
            return drop_surplus(session, Records(self._records), name, self.former if keep is None else keep)

    def drop_unfinished(self) -> tuple[str, ...]:
        """Drop what killed restores and drills were loading; returns the names. The library's lock must be held."""
        from scriptorium.sources.postgres.previous import drop_unfinished
        from scriptorium.sources.postgres.records import Records

        address = self.address().resolved()
        with address.maintenance() as session:
            return drop_unfinished(session, Records(self._records), address.words["dbname"])

    def holders(self) -> Iterator[Holder]:
        """The sessions of clients. They do not stand in the way: a restore ends them at its switch."""
        from scriptorium.sources.postgres.restore.preflight import sessions_in

        address = self.address().resolved()
        with address.maintenance() as session:
            yield from sessions_in(session, address.words["dbname"])


class PostgresStream:
    """The dump of a source on its way into an archive."""

    def __init__(self, dump: DumpStream, place: str, staged: Callable[[], Staged]) -> None:
        self.folder = f"{place}/{dump.name}"
        self._dump = dump
        self._staged = staged

    def pieces(self) -> Generator[Piece, None, None]:
        return self._dump.pieces()

    def staged(self) -> Staged:
        return self._staged()
