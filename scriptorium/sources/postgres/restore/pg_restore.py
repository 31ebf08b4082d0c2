"""Running ``pg_restore``: every error ends the restore, with the few exceptions that are named here.

The data is loaded first, then the indexes are built, then the objects that lock a table against readers, mainly primary
keys. The fingerprints of the tables are taken meanwhile (``comparison.py``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import process
from scriptorium.errors import ToolFailed, ToolMissing
from scriptorium.failpoints import reach
from scriptorium.model import TableFingerprint
from scriptorium.progress import Advance
from scriptorium.sources.postgres.computing import of_the_session
from scriptorium.sources.postgres.connection import PLAIN_PROGRAM, Address, Row
from scriptorium.sources.postgres.errors import in_one_line, translated, translating_errors
from scriptorium.sources.postgres.fingerprint import regenerated_columns, relations, take_fingerprints
from scriptorium.sources.postgres.limits import fitting_jobs
from scriptorium.sources.postgres.locks import patient_program
from scriptorium.sources.postgres.own_names import keeping_search_path, own_path
from scriptorium.sources.postgres.programs import Program
from scriptorium.sources.postgres.progress import bytes_read, measured
from scriptorium.sources.postgres.restore.comparison import Reading
from scriptorium.sources.postgres.restore.constraints import EntriesFailed, RestoreNotes, retry_entries
from scriptorium.sources.postgres.restore.one_transaction import Change, leave_out, notes_of, replacements
from scriptorium.sources.postgres.spread import as_recorded
from scriptorium.sources.postgres.stall_watch import StallWatch
from scriptorium.sources.postgres.views import rebuilt_views

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

# A client of version 17 or newer sets this first, and an older server does not know it.
_HARMLESS = re.compile(r'unrecognized configuration parameter "transaction_timeout"')
_NEVER_INDEXED = ("INDEX ATTACH", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER", "EVENT TRIGGER", "RULE",
                  "POLICY", "ROW SECURITY", "STATISTICS", "COMMENT", "MATERIALIZED VIEW DATA", "PUBLICATION",
                  "PUBLICATION TABLE", "SUBSCRIPTION")  # fmt: skip
_KINDS = "|".join(sorted(_NEVER_INDEXED, key=len, reverse=True))
_ENTRY = re.compile(rf"\d+; \d+ \d+ (?P<rest>(?P<kind>{_KINDS}|INDEX|[A-Z]+) .*)")
_ANY_ENTRY = re.compile(r"(?P<number>\d+); \d+ \d+ (?P<rest>.*)")
_FAILED_ENTRY = re.compile(r"from TOC entry (\d+); ")
_PROGRESS = re.compile(r"^pg_restore: (?!error|warning|from TOC|while|hint|detail).*\n?", re.MULTILINE)
_ERROR = re.compile(r"^pg_restore: error: (.*)$", re.MULTILINE)
# Safe for a database that is not in use yet: the switch commits synchronously, and then everything before is on disk.
_NEW = ("-c synchronous_commit=off",)
_MEMORY = 512  # MiB of the server's, for all that build indexes at once


@dataclass(frozen=True, slots=True)
class Restorer:
    """``address``: the database to restore into; ``server_major``: the version of its server; ``switches``: further
    arguments of pg_restore; ``stall_timeout``: seconds that it may make no progress (0: no limit). ``without_broken``:
    constraints that do not hold are left out; ``notes`` names them."""

    program: Program
    address: Address
    server_major: int
    jobs: int = 1
    switches: tuple[str, ...] = ()
    stall_timeout: float = 0.0
    left_out: frozenset[str] = frozenset()
    without_broken: bool = False
    notes: RestoreNotes = field(default_factory=RestoreNotes)

    def whole(self, dump: Path, *, clean: bool, lock_timeout: float, advance: Advance | None = None) -> None:
        """Restore everything in one transaction; ``clean``: in place of the existing objects. ``LibraryBusy`` if a
        table was locked for ``lock_timeout`` seconds. ``advance`` is called with the bytes read."""
        if self._too_new:  # its error would end the transaction
            raise ToolMissing(
                f"a pg_restore of {self.server_major} to 16 is needed to restore in one transaction",
                on=str(self.program),
                hint=f"install it: apt-get install postgresql-client-{self.server_major}",
            )
        switches = ["--single-transaction", *(["--clean", "--if-exists"] if clean else [])]
        with self._listed(dump) as chosen:
            switches += chosen
            try:
                self._whole(dump, switches, lock_timeout, advance)
            except EntriesFailed as first:  # nothing was changed: try again with the database's own search_path
                log.info("the restore failed and is tried again with the database's search_path: %s", first)
                self._whole_otherwise(dump, switches, lock_timeout)

    def _whole_otherwise(self, dump: Path, switches: Sequence[str], lock_timeout: float) -> None:
        """The same with the database's own ``search_path``, and without constraints that do not hold, if they may be
        left out. Such an entry is known only when it fails, so each one needs another try."""
        changes: dict[int, Change] = {}
        with self.address.session() as session:
            path = own_path(session)
        while True:
            with keeping_search_path(dump, [*replacements(changes)]) as (named, reading):
                again = Path(named[0]) if named else None
                try:
                    self._whole(again, switches, lock_timeout, None, path=path, stdin=reading)
                    break
                except EntriesFailed as failure:
                    leave_out(self, dump, failure, changes)
                    log.info("it is tried again without the constraint that does not hold: %s", failure)
        self.notes.warnings += notes_of(changes)

    def _whole(
        self,
        dump: Path | None,
        switches: Sequence[str],
        lock_timeout: float,
        advance: Advance | None,
        *,
        path: str = "",
        stdin: int | None = None,
    ) -> None:
        application = _application()
        with (
            patient_program(self.address, application, lock_timeout),
            self._started(dump, switches, application, living=True, path=path, stdin=stdin) as child,
            measured(lambda: bytes_read(child.pid), advance),
        ):
            child.wait()

    def beside(self, dump: Path, expected: Mapping[str, TableFingerprint] | None) -> Mapping[str, TableFingerprint]:
        """Restore into an empty database; returns its fingerprints."""
        log.info("%s: pg_restore begins, up to %d processes", self.address.words.get("dbname"), self.jobs)
        with self.address.session() as session:
            parallel = [f"--jobs={fitting_jobs(session, self.jobs)}"]  # `Reading` takes the connection of this session
        with self._listed(dump, "--section=pre-data") as chosen:
            self._run(dump, ["--section=pre-data", *chosen])
        with Reading(self.address, expected or {}) as reading:
            self._run(dump, [*parallel, "--section=data"])
            reach("database.filled")
            reading.all_loaded()
            with self._steps(dump) as (first, last):
                if first:
                    self._run(dump, [*parallel, *first])
                with self._retrying(dump), self._started(dump, [*parallel, *last]):
                    fingerprints = reading.fingerprints()
            self.notes.require(self.address)
            self.notes.missing.update(reading.missing)
        reach("database.indexed")
        with self.address.session() as session:
            self._analyze(session)
            views = [one for one in relations(session) if one.kind == "m"]
            empty = [one.name for one in views if not one.populated and one.name in (expected or {})]
            self.notes.missing.update({name: "the view could not be filled" for name in empty})
            filled = take_fingerprints(session, views, expected=expected or {})
            self.notes.missing.update(filled.missing)
            self.notes.rebuilt.update(rebuilt_views(views, filled.tables, expected or {}))
            self.notes.missing.update(regenerated_columns(relations(session), fingerprints, expected or {}))
            return fingerprints | dict(filled.tables) | as_recorded(session, fingerprints, expected or {})

    def _analyze(self, session: psycopg.Connection[Row]) -> None:
        """Take statistics. An index on a function calls the function for them; if that fails, only plans are worse."""
        import psycopg

        for path in ("", own_path(session)):
            try:
                session.execute("SELECT set_config('search_path', %s, false)", (path,))
                session.execute("ANALYZE")
                break
            except psycopg.Error as error:
                if of_the_session(session, error):
                    raise
                last = " ".join((error.diag.message_primary or str(error)).split())
        else:
            self.notes.warnings.append(f"statistics could not be taken: {last}; run ANALYZE")
        session.execute("SET search_path = ''")

    def retry(self, dump: Path, lines: Sequence[str], path: str) -> None:
        """Restore these entries of the dump again, with this ``search_path``. ``EntriesFailed`` has those that still
        fail."""
        with _lists([lines]) as (chosen,), keeping_search_path(dump) as (named, reading):
            words = [f"--use-list={chosen}"]
            with self._started(Path(named[0]) if named else None, words, path=path, stdin=reading):
                pass

    def lines(self, dump: Path, numbers: Collection[int]) -> list[str]:
        """The lines of the table of contents with these numbers, in their order."""
        argv = [self.program.path, "--list", str(dump)]
        listed = process.run(argv, timeout=600).stdout.decode("utf-8", "surrogateescape").splitlines()
        return [line for line in listed if (found := _ANY_ENTRY.match(line)) and int(found["number"]) in numbers]

    def script(self, dump: Path, line: str) -> bytes:
        """The SQL of one entry, in the dump's encoding."""
        with _lists([[line]]) as (chosen,):
            argv = [self.program.path, *self.switches, f"--use-list={chosen}", "--file=-", str(dump)]
            return process.run(argv, timeout=600).stdout

    @contextlib.contextmanager
    def _retrying(self, dump: Path) -> Iterator[None]:
        """Entries that fail in the block are tried again with another ``search_path``, then one by one."""
        try:
            yield
        except EntriesFailed as failure:
            if not failure.entries:
                raise
            log.info("%d entries of the dump failed and are tried again: %s", len(failure.entries), failure)
            retry_entries(self, dump, failure)

    @property
    def _too_new(self) -> bool:
        """Whether the program sets a parameter that the server does not know: a harmless error."""
        return self.program.version[0] >= 17 > self.server_major

    @contextlib.contextmanager
    def _listed(self, dump: Path, *section: str) -> Iterator[Sequence[str]]:
        """The switches that leave out the entries of ``left_out``."""
        if not self.left_out:
            yield ()
            return
        with _lists([self._contents(dump, *section)]) as (chosen,):
            yield (f"--use-list={chosen}",)

    def _contents(self, dump: Path, *section: str) -> dict[str, str]:
        """The entries of the dump that are to be restored: lines of its list, with their kinds."""
        argv = [self.program.path, *section, "--list", str(dump)]
        listed = process.run(argv, timeout=600).stdout.decode("utf-8", "surrogateescape")
        entries = {line: found for line in listed.splitlines() if (found := _ENTRY.match(line))}
        out = tuple(f"{entry} " for entry in self.left_out)
        return {line: found["kind"] for line, found in entries.items() if not found["rest"].startswith(out)}

    @contextlib.contextmanager
    def _steps(self, dump: Path) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
        """The switches for the two steps after the data: indexes, then the rest. Everything is in the last step if an
        index may need an object of the rest (a materialized view that needs a primary key)."""
        after = ["--section=post-data"]
        entries = self._contents(dump, *after)
        indexes = {line: kind for line, kind in entries.items() if kind == "INDEX"}
        rest = {line: kind for line, kind in entries.items() if kind != "INDEX"}
        if not indexes or not all(kind in _NEVER_INDEXED for kind in rest.values()):
            with self._listed(dump, *after) as chosen:
                yield [], [*after, *chosen]
            return
        with _lists([indexes, rest]) as (first, last):
            yield [*after, f"--use-list={first}"], [*after, f"--use-list={last}"]

    def _run(self, dump: Path, switches: Sequence[str]) -> None:
        with self._retrying(dump), self._started(dump, switches):
            pass

    @contextlib.contextmanager
    def _started(
        self,
        dump: Path | None,
        switches: Sequence[str],
        application: str = "",
        *,
        living: bool = False,
        path: str = "",
        stdin: int | None = None,
    ) -> Iterator[process.Child]:
        """Run pg_restore while the block runs; at the end of the block, wait for it and raise its error. ``living``: in
        one transaction. ``path``: with this ``search_path``. Without ``dump`` the dump is read from ``stdin``."""
        strict = ["--no-subscriptions", *(["--exit-on-error"] if living else [])]
        application = application or _application()
        target = f"--dbname={self.address.of_child(application, sends=True)}"
        argv = [self.program.path, *strict, "--no-password", "--verbose", *self.switches, *switches, target]
        argv += [str(dump)] if dump is not None else []
        environment = self.address.environment(application)
        memory = f"-c maintenance_work_mem={max(64, min(256, _MEMORY // self.jobs))}MB"
        plain = (memory, *PLAIN_PROGRAM, *(() if living else _NEW))
        options = (process.variable("PGOPTIONS") or "", *plain, *_with_path(path))
        environment["PGOPTIONS"] = " ".join(options).strip()
        with os.fdopen(os.memfd_create("pg_restore"), "w+b") as messages:
            out = messages.fileno()
            child = process.start(argv, env=environment, stdin=stdin or process.NOTHING, stdout=out, stderr=out)
            try:
                reach("database.restoring")
                with StallWatch(child, "pg_restore", self.address, application, self.stall_timeout):
                    with translating_errors(self.address, secrets=self.address.secrets):
                        yield child
                    status = child.wait()
            finally:
                process.end(child)
            messages.seek(0)
            words = messages.read().decode("utf-8", "replace")
        if status != 0:
            self._judge(status, words)

    def _judge(self, status: int, words: str) -> None:
        real = [error for error in _ERROR.findall(words) if not _HARMLESS.search(error)]
        entries = frozenset(map(int, _FAILED_ENTRY.findall(words)))
        text, hidden = _PROGRESS.sub("", words), self.address.secrets
        if self._too_new and _HARMLESS.search(words) and not real and status == 1:
            return
        if status < 0 or not real:
            raise process.failure([self.program.path], status, text, hidden)
        errors = [translated(one, self.address, secrets=hidden) for one in real]
        error = next((one for one in errors if type(one) is not ToolFailed), errors[0])
        if type(error) is not ToolFailed:
            raise error
        hint = error.hint or in_one_line(text, hidden)
        raise EntriesFailed(f"pg_restore failed: {error.what}", on=error.on, hint=hint, entries=entries)


def _with_path(path: str) -> tuple[str, ...]:
    """The path as a word of PGOPTIONS, in which white space is escaped by a backslash."""
    escaped = re.sub(r"([ \t\n\v\f\r\\])", r"\\\1", path)
    return (f"-c search_path={escaped}",) if path else ()


def _application() -> str:
    return f"scriptorium restore {secrets.token_hex(4)}"


@contextlib.contextmanager
def _lists(contents: Sequence[Iterable[str]]) -> Iterator[list[Path]]:
    """A file for each list of entries, as pg_restore reads them."""
    with tempfile.TemporaryDirectory(prefix="scriptorium-") as folder:
        files = [Path(folder, str(number)) for number in range(len(contents))]
        for file, lines in zip(files, contents, strict=True):
            file.write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
        yield files
