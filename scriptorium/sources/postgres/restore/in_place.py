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
from scriptorium.sources.postgres.restore.living import (
    Contents,
    Remade,
    contents_now,
    differing,
    numbers_now,
    settled_numbers,
    written,
)
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
        self._gives_up = False

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self._notes.warnings, *not_compared(self.rebuilt_views))

    @property
    def _previous(self) -> Path:
        return self._folder / "former"

    @property
    def _replaced(self) -> Path:
        """A file that exists from just before the transaction that replaces the data: the tables' numbers before, and
        the fingerprints that the backup has."""
        return self._folder / "replaced"

    @property
    def _committed(self) -> Path:
        """A file that exists from just after the transaction, with what was there then. Functions and constraints were
        replaced as well, which no fingerprint shows."""
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
        with self._patient() as session:
            Contents(numbers_now(session), self._part.tables).write(self._replaced)
        self._gives_up = True  # from here on a failure is ours, and this process rolls it back
        reach("inplace.before-replacing")
        self._replace(self._dump(), self._notes, without_broken=self._target.without_broken)
        log.info("%s: one transaction replaced its contents", self._target.name)
        reach("inplace.replaced")
        self._committed.touch()
        expected = self._part.tables
        with self._patient() as session:
            numbers = numbers_now(session)
            found = fingerprints_now(session, self._before() if expected is None else expected)
        Contents(numbers, found.tables).write(self._committed)
        if expected is None:
            return
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

    @property
    def _given_up(self) -> Path:
        """What was there when an undo began: it may be overwritten, what is written later may not."""
        return self._folder / "given-up"

    def give_up(self) -> None:
        self._require_ours()
        self._gives_up = True
        if self._replaced.exists():
            with self._patient() as session:
                contents_now(session, self._before()).write(self._given_up)

    def put_back(self) -> None:
        self._require_ours()
        if self.returned() or not self._replaced.exists():
            return
        if self._never_replaced():
            self._say_what_is_newer("its tables are those of before: the restore was rolled back")
            return
        if not self._gives_up:
            if self._loaded_again():
                return
            self._require_unwritten()
        log.info("%s: the dump of what was there is loaded again", self._target.name)
        reach("inplace.before-back")
        self._drop_added()
        # A constraint that does not hold did not hold before the restore either, so it does not prevent the undo.
        left = RestoreNotes()
        self._replace(dump_in(self._previous / PART, self._target.name), left, without_broken=True)
        for warning in left.warnings:
            log.warning("%s: %s", self._target.name, warning)
        reach("inplace.back")
        with self._patient() as session:
            if wrong := differing(session, self._before()):
                contents_now(session, self._before()).write(self._given_up)
                raise RestoreFailed(
                    f"not as they were before the restore: {', '.join(wrong[:5])}",
                    on=self._target.name,
                    hint=f"the dump of what was there before is kept in {self._previous}",
                )
        self._back.touch()

    def _before(self) -> Mapping[str, TableFingerprint]:
        return DumpRecord.read(self._previous / RECORD).tables

    def _never_replaced(self) -> bool:
        """Whether the transaction was rolled back: every table is still the one of before, by its number."""
        if self._committed.exists() or self._given_up.exists():
            return False
        was = Contents.read(self._replaced)
        with self._patient() as session:
            numbers = settled_numbers(session)
            if was is None:  # an earlier version recorded no numbers
                return not differing(session, self._before())
            return was.remade(numbers, was.tables) is Remade.NONE

    def _loaded_again(self) -> bool:
        """Whether an undo that was killed had committed its transaction. Then only what was written since differs."""
        was = Contents.read(self._given_up)
        if was is None:
            return False
        with self._patient() as session:
            if was.remade(settled_numbers(session), self._before()) is not Remade.ALL:
                return False
        newer = self._say_what_is_newer("the dump was loaded again before the undo was cut short")
        self._back.write_text("\n".join(newer))
        return True

    def _say_what_is_newer(self, found: str) -> list[str]:
        """The previous tables are there. Those that differ were written to since, and stay as they are."""
        with self._patient() as session:
            newer = differing(session, self._before())
        if newer:
            log.warning("%s: %s; written to since, and left: %s", self._target.name, found, ", ".join(newer[:5]))
        else:
            log.info("%s: %s", self._target.name, found)
        return newer

    def _require_unwritten(self) -> None:
        """``RestoreFailed`` names the tables that somebody has written to since the restore or its undo was cut short.
        The dump is never loaded over them."""
        before, gone = self._before(), list[str]()
        if was := Contents.read(self._given_up):
            baseline, gone = was.tables, [name for name in was.numbers if name not in before]
        elif done := Contents.read(self._committed):
            baseline = done.tables
        else:
            was = Contents.read(self._replaced)
            restored = was.tables if was else None
            baseline = None if restored is None else {**before, **restored}  # tables that the backup lacks stay
            gone = [name for name in before if name not in (restored or {})]
        with self._patient() as session:
            newer = [] if baseline is None else written(session, baseline, gone)
            if (baseline is not None and not newer) or not differing(session, before):
                return
        found = (
            f"somebody has written to it since the restore or its undo was cut short: {', '.join(newer[:5])}"
            if newer
            else "it is not known whether it was written to since that: the backup has no fingerprints"
        )
        raise RestoreFailed(
            f"{found}; the dump of what was there before is not loaded over it, and is kept in {self._previous}",
            on=self._target.name,
            hint="the runbook, chapter 15",
        )

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
                    newer = ", ".join(self._back.read_text().split("\n")[:3])
                    how = f"and written to since: {newer}" if newer else "with rows and fingerprints as before"
                    return Previous(Whereabouts.BACK, f"loaded again, {how}")
                if self._never_replaced():
                    return Previous(Whereabouts.BACK, "its tables were not replaced: the restore was rolled back")
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

    def finish(self) -> None:
        self._drop_folder()
