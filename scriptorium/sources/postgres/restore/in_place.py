"""The restore of a PostgreSQL database in place, for roles that may not create databases.

The living database is dumped first. Then one transaction replaces everything. An undo loads that dump.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from scriptorium.errors import DamageFound, RestoreFailed, Untrusted
from scriptorium.failpoints import reach
from scriptorium.fs.free_space import require_space
from scriptorium.fs.ours import others_may_write
from scriptorium.fs.previous import Kept, Previous, Whereabouts
from scriptorium.model import Part, TableFingerprint
from scriptorium.sources.postgres.connection import Row, sql
from scriptorium.sources.postgres.dump.directory import PART, RECORD, DumpRecord, plain_size, take
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.fingerprint import Relation, relations
from scriptorium.sources.postgres.locks import patient_program, patient_session
from scriptorium.sources.postgres.previous import another_server
from scriptorium.sources.postgres.programs import major_of
from scriptorium.sources.postgres.records import number_of, system_of
from scriptorium.sources.postgres.restore.comparison import fingerprints_now, not_compared
from scriptorium.sources.postgres.restore.constraints import RestoreNotes
from scriptorium.sources.postgres.restore.pg_restore import Restorer
from scriptorium.sources.postgres.restore.psql import run_script, schemas
from scriptorium.sources.postgres.restore.requirements import Requirements, require, required
from scriptorium.sources.postgres.restore.staging import Target, Unpacked, dump_in, is_script

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)


class InPlaceIncoming(Unpacked):
    """Restored into the living database in one transaction, after a dump of it."""

    missing_fingerprints: Mapping[str, str] = MappingProxyType({})
    rebuilt_views: Mapping[str, str] = MappingProxyType({})

    def __init__(self, part: Part, target: Target, restore_id: str) -> None:
        super().__init__(part, target, restore_id)
        self._notes = RestoreNotes()

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self._notes.warnings, *not_compared(self.rebuilt_views))

    @property
    def _previous(self) -> Path:
        return self._folder / "former"

    @property
    def _replaced(self) -> Path:
        """A file that exists from just before the transaction that replaces the data."""
        return self._folder / "replaced"

    @property
    def _committed(self) -> Path:
        """A file that exists from just after the transaction. Then functions and constraints were replaced as well,
        which no fingerprint shows."""
        return self._folder / "committed"

    def prepare(self) -> None:
        self.undo()
        self._make_folder()

    def load(self) -> Mapping[str, TableFingerprint] | None:
        """Examine the dump, and dump the living database. The restored rows are compared in ``switch``."""
        dump = self._dump()
        with self._patient() as session:
            if is_script(dump):
                self._examined(dump)
            else:
                program = self._program(dump, major_of(session.info.server_version))
                self._examined(dump, program)
                require(session, required(dump, program), self._target.address, without=self._target.without_roles)
            self._require_space(relations(session))
        self._previous.mkdir(mode=0o700)
        log.info("%s: what it holds is dumped to %s first", self._target.name, self._previous)
        reach("inplace.before-saving")
        take(self._target.address, self._previous, self._target.options)
        return self._part.tables

    def _require_space(self, living: Sequence[Relation]) -> None:
        """Require space for the dump of the living database."""
        hint = "free some space, or set 'staging' to a folder on a larger disk"
        require_space(self._folder, plain_size(living), "the dump of what is replaced", hint)

    def switch(self) -> None:
        self._replaced.touch()
        reach("inplace.before-replacing")
        self._replace(self._dump(), self._notes, without_broken=self._target.without_broken)
        log.info("%s: one transaction replaced its contents", self._target.name)
        reach("inplace.replaced")
        self._committed.touch()
        expected = self._part.tables
        if expected is None:
            return
        with self._patient() as session:
            found = fingerprints_now(session, expected)
        self.missing_fingerprints, self.rebuilt_views = found.missing, found.rebuilt
        wrong = [
            name
            for name, fingerprint in expected.items()
            if found.tables.get(name) != fingerprint and found.compared(name)
        ]
        if wrong:
            raise DamageFound(
                "the restored database is not what was backed up", on=self._part.source, hint=", ".join(wrong[:5])
            )

    def _replace(self, dump: Path, notes: RestoreNotes, *, without_broken: bool) -> None:
        address, options = self._target.address, self._target.options
        with self._patient() as session:
            major = major_of(session.info.server_version)
            if is_script(dump):
                self._run_script(dump, major, schemas(session))
                return
            program = self._program(dump, major)
            lacking = Requirements()
            if self._target.without_roles:
                lacking = require(session, required(dump, program), address, without=True)
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
        restorer.whole(dump, clean=True, lock_timeout=options.lock_timeout)

    def _run_script(self, dump: Path, major: int, emptying: Sequence[str]) -> None:
        address, options = self._target.address, self._target.options
        application = f"scriptorium restore {secrets.token_hex(4)}"
        with patient_program(address, application, options.lock_timeout):
            run_script(
                dump,
                address,
                major,
                options.tools,
                self._examined(dump),
                emptying=emptying,
                application=application,
                stall_timeout=options.stall_timeout,
            )

    def _patient(self) -> AbstractContextManager[psycopg.Connection[Row]]:
        """A session for sizes and fingerprints. It waits for locked tables, but not without limit."""
        return patient_session(self._target.address, self._target.options.lock_timeout)

    @property
    def _back(self) -> Path:
        """There from just after the previous data was loaded again and compared."""
        return self._folder / "back"

    def undo(self) -> None:
        self.put_back()
        self._drop_folder()

    def returned(self) -> bool:
        return self._back.exists()

    def put_back(self) -> None:
        self._require_ours()
        if self.returned():
            return
        if self._committed.exists() or (self._replaced.exists() and self._differing()):
            log.info("%s: the dump of what was there is loaded again", self._target.name)
            reach("inplace.before-back")
            self._drop_added()
            # A constraint that does not hold did not hold before the restore either, so it does not prevent the undo.
            left = RestoreNotes()
            self._replace(dump_in(self._previous / PART, self._target.name), left, without_broken=True)
            for warning in left.warnings:
                log.warning("%s: %s", self._target.name, warning)
            reach("inplace.back")
            if wrong := self._differing():
                raise RestoreFailed(
                    f"not as they were before the restore: {', '.join(wrong[:5])}",
                    on=self._target.name,
                    hint=f"the dump of what was there before is kept in {self._previous}",
                )
            self._back.touch()

    def _require_ours(self) -> None:
        """A dump can contain code, so one that other users may have put there is not loaded."""
        why = others_may_write(self._folder) if self._folder.exists() else ""
        if why:
            raise Untrusted("the dump of the previous data is not ours alone", on=str(self._folder), hint=why)

    def plan(self) -> Kept:
        """The contents of the dump that an undo loads, recorded before anything is replaced."""
        return self.kept()

    def kept(self) -> Kept:
        fingerprints = DumpRecord.read(self._previous / RECORD).tables
        with self._target.address.session() as session:
            name = session.info.dbname
            number, system = number_of(session, name), system_of(session)
        return {
            "system": system,
            "database": name,
            "replaced": number,
            "folder": str(self._previous),
            "tables": {name: [one.rows, one.fingerprint] for name, one in fingerprints.items()},
        }

    def previous(self, kept: Kept) -> Previous:
        if not kept:
            there = self._replaced.exists()
            return Previous(Whereabouts.ASIDE if there else Whereabouts.BACK, "put aside" if there else "not recorded")
        with self._patient() as session:
            if other := another_server(session, kept):
                return other
            if number_of(session, str(kept["database"])) != kept["replaced"]:
                return Previous(Whereabouts.GONE, f"another database has the name {kept['database']} now")
            previous = Path(str(kept["folder"]))
            if previous == self._previous and (previous / RECORD).is_file() and self._replaced.exists():
                if self._back.exists():
                    return Previous(Whereabouts.BACK, "loaded again, with rows and fingerprints as before")
                return Previous(Whereabouts.ASIDE, f"as a dump in {previous}")
            tables = kept["tables"]
            assert isinstance(tables, dict)
            expected = {name: TableFingerprint(*fingerprint) for name, fingerprint in tables.items()}
            if not fingerprints_now(session, expected).differing(expected):
                return Previous(Whereabouts.BACK, "rows and fingerprints of all tables are those of before the restore")
        return Previous(Whereabouts.GONE, f"the dump in {previous} is gone")

    def _drop_added(self) -> None:
        """Drop the objects that the restore made and the previous dump does not contain, so that loading it would leave
        them."""
        before = DumpRecord.read(self._previous / RECORD).tables
        with self._patient() as session, translating_errors(self._target.address), session.transaction():
            added = [one for one in relations(session) if one.name not in before]
            for kind, word in (("r", "TABLE"), ("m", "MATERIALIZED VIEW"), ("S", "SEQUENCE")):
                for one in added:
                    if one.kind == kind:
                        session.execute(sql(f"DROP {word} IF EXISTS {one.sql} CASCADE"))
            session.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")  # the dump restores all previous ones

    def _differing(self) -> list[str]:
        """The tables that differ from before the restore; none if the transaction was rolled back."""
        expected = DumpRecord.read(self._previous / RECORD).tables
        with self._patient() as session:
            return fingerprints_now(session, expected).differing(expected)

    def finish(self) -> None:
        self._drop_folder()
