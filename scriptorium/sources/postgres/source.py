"""A PostgreSQL database as a source: dumped from one snapshot, restored beside the living one, switched by a rename."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from scriptorium.errors import SourceUnavailable
from scriptorium.model import Health, Holder, Part, Staged, Streams, Survey, Tree
from scriptorium.progress import Advance
from scriptorium.sources.options import AS_CONFIGURED, RestoreOptions
from scriptorium.sources.postgres.settings import PostgresSettings, useful_jobs

if TYPE_CHECKING:  # these modules are imported only when needed: every `list` reads the settings
    from scriptorium.members import Piece
    from scriptorium.sources.optional import ForeignDump
    from scriptorium.sources.postgres.dump.directory import DumpRecord
    from scriptorium.sources.postgres.dump.stream import DumpStream
    from scriptorium.sources.postgres.export.tables import PostgresTables
    from scriptorium.sources.postgres.restore.beside import BesideIncoming, DatabaseFiles
    from scriptorium.sources.postgres.restore.drill import EmbeddedIncoming
    from scriptorium.sources.postgres.restore.in_place import InPlaceIncoming
    from scriptorium.sources.postgres.restore.staging import Target
    from scriptorium.sources.tables import Wanted

_CHOICES = ("in_place", "without_roles", "without_broken_constraints")
_STREAMS = {"auto": Streams.WHERE_SHORT, "stage": Streams.NEVER, "stream": Streams.ALWAYS}


class PostgresSource(PostgresSettings):
    """A PostgreSQL database, given by its settings."""

    def survey(self, never: tuple[Path, ...]) -> Survey:
        """Sizes on the server's disk. A dump may be larger, because the server stores text compressed.

        ``SnapshotBusy`` if a table is locked: then not even its size can be read.
        """
        from scriptorium.sources.postgres.dump.directory import plain_size
        from scriptorium.sources.postgres.fingerprint import relations
        from scriptorium.sources.postgres.locks import patient_session

        with patient_session(self.address(), self.lock_timeout) as session:
            found = relations(session)
        total = sum(one.size for one in found)
        return Survey(bytes=total, files=len(found) + 3, staged_bytes=plain_size(found), streams=_STREAMS[self.dump])

    def capture(self, stage: Path) -> None:
        """Write dump and fingerprints of one snapshot into ``stage``; see ``dump/directory.py``."""
        from scriptorium.sources.postgres.dump.directory import take

        take(self.address(), stage, self.dump_options)

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        from scriptorium.sources.postgres.dump.directory import RECORD, DumpRecord

        return self._staged(DumpRecord.read(stage / RECORD), stage)

    def _staged(self, record: DumpRecord, stage: Path, *, pending: bool = False) -> Staged:
        from scriptorium.sources.postgres.dump.directory import PART

        return Staged(
            source=self.name,
            kind=self.kind,
            path=self.place,
            method=record.method,
            started_at=record.started_at,
            finished_at=record.finished_at,
            trees=(Tree(root=str(stage / PART), at=self.place),),
            engine_version=record.engine_version,
            tables=record.tables,
            warnings=record.warnings,
            answers=record.answers,
            pending=pending,
            provenance=record.provenance,
            missing_fingerprints=record.missing,
        )

    @contextlib.contextmanager
    def stream(self, stage: Path) -> Iterator[PostgresStream]:
        from scriptorium.sources.postgres.dump.stream import streaming

        with streaming(self.address(), stage, self.dump_options) as dump:
            yield PostgresStream(dump, self.place, lambda: self._staged(dump.record, stage, pending=not dump.ended))

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
        """``partial`` and ``never`` have no effect: a database is always restored completely."""
        from scriptorium.sources.postgres.restore.beside import BesideIncoming, DatabaseFiles
        from scriptorium.sources.postgres.restore.in_place import InPlaceIncoming

        if into is not None:
            return DatabaseFiles(part, into)
        chosen = self._with(options)
        return (InPlaceIncoming if chosen.in_place else BesideIncoming)(part, chosen._goal(), restore_id)

    def _with(self, options: RestoreOptions) -> PostgresSource:
        """The same source with the user's options for this restore."""
        given = options.postgres
        return self.model_copy(
            update={
                "in_place": self.in_place or given.clean,
                "without_roles": self.without_roles or given.without_roles,
                "without_broken_constraints": self.without_broken_constraints or given.without_broken_constraints,
            }
        )

    def preconditions(self, part: Part, options: RestoreOptions = AS_CONFIGURED) -> Mapping[str, Callable[[], str]]:
        """The roles, tablespaces and extensions that the dump needs are known only from the archive; a row says so."""
        from scriptorium.sources.postgres.restore.preflight import preconditions

        return preconditions(self._with(options), part)

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
        if record.get("address", address.plain) != address.plain:  # with the password of the present settings
            given |= {"database": record["address"], "service": "", "password": SecretStr(address.password)}
        return self.model_copy(update=given)

    def tidy(self) -> tuple[str, ...]:
        """Drop surplus previous databases, and those that killed restores were loading. Does nothing if the server does
        not answer."""
        try:
            return (*self.drop_previous(), *self.drop_unfinished())
        except SourceUnavailable:
            return ()

    def renamed(self, name: str) -> PostgresSource:
        return self.model_copy(update={"target": name, "in_place": False})

    def rehearsal(self, part: Part, drill_id: str, scratch: Path) -> BesideIncoming | EmbeddedIncoming:
        """A scratch database on the same server or on a temporary one, dropped at the end."""
        from scriptorium.sources.postgres.restore.drill import EmbeddedIncoming

        if self.drill == "server":
            return self._beside(part, drill_id, scratch)
        return EmbeddedIncoming(part, lambda address: self._on(address)._beside(part, drill_id, scratch))

    def _on(self, address: str) -> PostgresSource:
        """The same source with a new server, which has none of its roles."""
        without = {"service": "", "password": None, "password_file": None, "password_env": "", "password_command": ()}
        without |= {"pooler": "refuse"}
        given = {"database": address, "target": "", "in_place": False, "without_roles": True, "drill": "server"}
        return self.model_copy(update={**without, **given})

    def _beside(self, part: Part, drill_id: str, scratch: Path) -> BesideIncoming:
        from scriptorium.sources.postgres.restore.beside import BesideIncoming

        # a drill reports constraints that do not hold, but they are no fault of the backup
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
            records=self.records_folder,
            options=self.dump_options,
            jobs=self.jobs or useful_jobs(restoring=True),
            previous=self.previous,
            without_roles=self.without_roles,
            elsewhere=elsewhere,
            without_broken=self.without_broken_constraints,
        )

    def previous_databases(self) -> tuple[str, ...]:
        """The databases that restores replaced and that still exist, newest first."""
        from scriptorium.sources.postgres.previous import previous_of
        from scriptorium.sources.postgres.records import Records

        address = self.address().resolved()
        with address.maintenance() as session:
            found = previous_of(session, Records(self.records_folder), address.words["dbname"])
            return tuple(str(record.previous) for record in found)

    def drop_previous(self, keep: int | None = None) -> tuple[str, ...]:
        """Drop all of them except the newest ``keep`` (by default ``previous``) and those that an undo may still need;
        returns the names of the dropped ones."""
        from scriptorium.sources.postgres.previous import drop_surplus
        from scriptorium.sources.postgres.records import Records

        address = self.address().resolved()
        with address.maintenance() as session:
            name = address.words["dbname"]
            return drop_surplus(session, Records(self.records_folder), name, self.previous if keep is None else keep)

    def drop_unfinished(self) -> tuple[str, ...]:
        """Drop databases that killed restores and drills were loading; returns their names. The caller holds the
        library's lock."""
        from scriptorium.sources.postgres.previous import drop_unfinished
        from scriptorium.sources.postgres.records import Records

        address = self.address().resolved()
        with address.maintenance() as session:
            return drop_unfinished(session, Records(self.records_folder), address.words["dbname"])

    def tables_in(self, part: Part, wanted: Sequence[Wanted], folder: Path) -> PostgresTables:
        from scriptorium.sources.postgres.export.tables import PostgresTables, StreamedTables

        way = StreamedTables if part.provenance.streamed else PostgresTables
        return way(part, wanted, folder, self.tools)

    def steps(self, table: str) -> tuple[str, ...]:
        from scriptorium.sources.tables import unquoted

        return unquoted(table)

    def read_foreign(self, file: Path, called: str, *, script: bool, trusted: bool) -> ForeignDump:
        from scriptorium.sources.postgres.adoption import read_foreign

        return read_foreign(file, self, called, script=script, trusted=trusted)

    def examine_unpacked(self, folder: Path, at: str) -> None:
        from scriptorium.sources.postgres.restore.staging import examine_unpacked

        examine_unpacked(folder, at, self.tools)

    def dump_to(self, file: Path, *, format: str = "custom", compress: int = 6, advance: Advance | None = None) -> int:
        from scriptorium.sources.postgres.single_file import backup

        address = self.address().resolved()
        return backup(address, file, format=format, compress=compress, options=self.dump_options, advance=advance)

    def load_from(
        self,
        file: Path,
        *,
        clean: bool = False,
        without_broken: bool = False,
        trusted: bool = False,
        advance: Advance | None = None,
    ) -> tuple[str, ...]:
        from scriptorium.sources.postgres.single_file import restore

        return restore(
            self.address().resolved(),
            file,
            clean=clean,
            without_roles=self.without_roles,
            without_broken=without_broken,
            lenient=self.without_broken_constraints,
            trusted=trusted,
            options=self.dump_options,
            advance=advance,
        )

    def health(self, files: Path | None = None) -> Health:
        from scriptorium.sources.postgres.check import check

        return check(self.address().resolved(), files=files, tools=self.tools)

    def holders(self) -> Iterator[Holder]:
        """The clients' sessions. They do not prevent a restore: it ends them at its switch."""
        from scriptorium.sources.postgres.restore.preflight import sessions_in

        address = self.address().resolved()
        with address.maintenance() as session:
            yield from sessions_in(session, address.words["dbname"])


class PostgresStream:
    """The dump of a source while it is written into an archive."""

    def __init__(self, dump: DumpStream, place: str, staged: Callable[[], Staged]) -> None:
        self.folder = f"{place}/{dump.name}"
        self._dump = dump
        self._staged = staged

    def pieces(self) -> Generator[Piece, None, None]:
        return self._dump.pieces()

    def staged(self) -> Staged:
        return self._staged()
