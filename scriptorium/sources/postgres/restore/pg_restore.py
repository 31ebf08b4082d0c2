"""Running ``pg_restore``: an error is an error, with the few exceptions that are named here.

The data goes in first, then the indexes, then what locks a table against its readers, primary keys above all; the
fingerprints of the tables are taken meanwhile (``comparison.py``).
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
from scriptorium.sources.postgres.errors import in_one_line, in_our_words, worded
from scriptorium.sources.postgres.fingerprint import generated_anew, relations, take_fingerprints
from scriptorium.sources.postgres.limits import fitting_jobs
from scriptorium.sources.postgres.locks import patient_program
from scriptorium.sources.postgres.own_names import own_path, without_emptying
from scriptorium.sources.postgres.programs import Program
from scriptorium.sources.postgres.progress import bytes_read, measured
from scriptorium.sources.postgres.restore.comparison import Reading
from scriptorium.sources.postgres.restore.constraints import LeftOut, Stumbled, try_again
from scriptorium.sources.postgres.restore.one_transaction import Change, leave_out, replacements, told_of
from scriptorium.sources.postgres.spread import as_recorded
from scriptorium.sources.postgres.stall_watch import StallWatch
from scriptorium.sources.postgres.views import made_anew

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

# A client of 17 or newer sets this before anything else, and an older server does not know it.
_HARMLESS = re.compile(r'unrecognized configuration parameter "transaction_timeout"')
_NEVER_INDEXED = ("INDEX ATTACH", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER", "EVENT TRIGGER", "RULE",
                  "POLICY", "ROW SECURITY", "STATISTICS", "COMMENT", "MATERIALIZED VIEW DATA", "PUBLICATION",
                  "PUBLICATION TABLE", "SUBSCRIPTION")  # fmt: skip
_KINDS = "|".join(sorted(_NEVER_INDEXED, key=len, reverse=True))
_ENTRY = re.compile(rf"\d+; \d+ \d+ (?P<rest>(?P<kind>{_KINDS}|INDEX|[A-Z]+) .*)")
_ANY_ENTRY = re.compile(r"(?P<number>\d+); \d+ \d+ (?P<rest>.*)")
_STUMBLED = re.compile(r"from TOC entry (\d+); ")
_PROGRESS = re.compile(r"^pg_restore: (?!error|warning|from TOC|while|hint|detail).*\n?", re.MULTILINE)
_ERROR = re.compile(r"^pg_restore: error: (.*)$", re.MULTILINE)
# Safe for a database that is not in use yet: the switch commits synchronously, and what came before is then on disk.
_NEW = ("-c synchronous_commit=off",)
_MEMORY = 512  # MiB of the server's, for all that build indexes at once


@dataclass(frozen=True, slots=True)
class Restorer:
    """``address``: the database to restore into; ``server_major`` its server's; ``switches``: more for pg_restore;
    ``stall_timeout``: seconds that it may stand still (0: no limit). ``without_broken``: constraints that do not hold
    are left out; ``told`` has what is left out, by name."""

    program: Program
    address: Address
    server_major: int
    jobs: int = 1
    switches: tuple[str, ...] = ()
    stall_timeout: float = 0.0
    left_out: frozenset[str] = frozenset()
    without_broken: bool = False
    told: LeftOut = field(default_factory=LeftOut)

    def whole(self, dump: Path, *, clean: bool, lock_timeout: float, advance: Advance | None = None) -> None:
        """Everything in one go, in place of what is there (``clean``), in one transaction: all of it or nothing.
        ``LibraryBusy`` when a table was locked for ``lock_timeout`` seconds. ``advance`` is told the bytes read."""
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
            except Stumbled as first:  # all of it is as it was: once more, with the database's own names
                log.info("the restore failed and is tried again with the database's own names: %s", first)
                self._whole_otherwise(dump, switches, lock_timeout)

    def _whole_otherwise(self, dump: Path, switches: Sequence[str], lock_timeout: float) -> None:
        """The same with the database's own ``search_path``, and without what does not hold where it may be left out:
        each such entry is known only when it fails, so it costs one more try."""
        changes: dict[int, Change] = {}
        with self.address.session() as session:
            path = own_path(session)
        while True:
            with without_emptying(dump, [*replacements(changes)]) as (named, reading):
                again = Path(named[0]) if named else None
                try:
                    self._whole(again, switches, lock_timeout, None, path=path, stdin=reading)
                    break
                except Stumbled as stumbled:
                    leave_out(self, dump, stumbled, changes)
                    log.info("it is tried again without what does not hold: %s", stumbled)
        self.told.warnings += told_of(changes)

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
        """Into an empty database; returns what it holds then."""
        log.info("%s: pg_restore begins, up to %d processes", self.address.words.get("dbname"), self.jobs)
        with self.address.session() as session:
            parallel = [f"--jobs={fitting_jobs(session, self.jobs)}"]  # its connection is the reading's then
        with self._listed(dump, "--section=pre-data") as chosen:
            self._run(dump, ["--section=pre-data", *chosen])
        with Reading(self.address, expected or {}) as reading:
            self._run(dump, [*parallel, "--section=data"])
            reach("database.filled")
            reading.all_is_there()
            with self._steps(dump) as (first, last):
                if first:
                    self._run(dump, [*parallel, *first])
                with self._stumbling(dump), self._started(dump, [*parallel, *last]):
                    fingerprints = reading.fingerprints()
            self.told.require(self.address)
            self.told.missing.update(reading.missing)
        reach("database.indexed")
        with self.address.session() as session:
            self._analyze(session)
            views = [one for one in relations(session) if one.kind == "m"]
            empty = [one.name for one in views if not one.populated and one.name in (expected or {})]
            self.told.missing.update({name: "the view could not be filled" for name in empty})
            filled = take_fingerprints(session, views, expected=expected or {})
            self.told.missing.update(filled.missing)
            self.told.anew.update(made_anew(views, filled.tables, expected or {}))
            self.told.missing.update(generated_anew(relations(session), fingerprints, expected or {}))
            return fingerprints | dict(filled.tables) | as_recorded(session, fingerprints, expected or {})

    def _analyze(self, session: psycopg.Connection[Row]) -> None:
        """Statistics of an index on a function call it; only the planner suffers where that fails."""
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
            self.told.warnings.append(f"statistics could not be taken: {last}; run ANALYZE")
        session.execute("SET search_path = ''")

    def again(self, dump: Path, lines: Sequence[str], path: str) -> None:
        """Entries of the dump, once more, with this ``search_path``. ``Stumbled`` has those that still fail."""
        with _lists([lines]) as (chosen,), without_emptying(dump) as (named, reading):
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
    def _stumbling(self, dump: Path) -> Iterator[None]:
        """What fails in the block is tried in a second way, and then one by one."""
        try:
            yield
        except Stumbled as stumbled:
            if not stumbled.entries:
                raise
            log.info("%d entries of the dump failed and are tried again: %s", len(stumbled.entries), stumbled)
            try_again(self, dump, stumbled)

    @property
    def _too_new(self) -> bool:
        """Whether the program says something that the server does not know: harmless, but an error."""
        return self.program.version[0] >= 17 > self.server_major

    @contextlib.contextmanager
    def _listed(self, dump: Path, *section: str) -> Iterator[Sequence[str]]:
        """The switches that leave out what is to be left out."""
        if not self.left_out:
            yield ()
            return
        with _lists([self._contents(dump, *section)]) as (chosen,):
            yield (f"--use-list={chosen}",)

    def _contents(self, dump: Path, *section: str) -> dict[str, str]:
        """The entries of the dump that are to be restored, as its lines, with their kinds."""
        argv = [self.program.path, *section, "--list", str(dump)]
        listed = process.run(argv, timeout=600).stdout.decode("utf-8", "surrogateescape")
        entries = {line: found for line in listed.splitlines() if (found := _ENTRY.match(line))}
        out = tuple(f"{entry} " for entry in self.left_out)
        return {line: found["kind"] for line, found in entries.items() if not found["rest"].startswith(out)}

    @contextlib.contextmanager
    def _steps(self, dump: Path) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
        """What comes after the data in two steps, as switches: indexes, then the rest. All in the last one where an
        index may need something of the rest (a materialized view that needs a primary key)."""
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
        with self._stumbling(dump), self._started(dump, switches):
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
        """pg_restore beside the block; leaving the block waits for it and raises what went wrong. ``living``: in one
        transaction. ``path``: with this ``search_path``. No ``dump``: it comes from ``stdin``."""
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
        with os.fdopen(os.memfd_create("pg_restore"), "w+b") as said:
            out = said.fileno()
            child = process.start(argv, env=environment, stdin=stdin or process.NOTHING, stdout=out, stderr=out)
            try:
                reach("database.restoring")
                with StallWatch(child, "pg_restore", self.address, application, self.stall_timeout):
                    with in_our_words(self.address, secrets=self.address.secrets):
                        yield child
                    status = child.wait()
            finally:
                process.end(child)
            said.seek(0)
            words = said.read().decode("utf-8", "replace")
        if status != 0:
            self._judge(status, words)

    def _judge(self, status: int, words: str) -> None:
        real = [error for error in _ERROR.findall(words) if not _HARMLESS.search(error)]
        entries = frozenset(map(int, _STUMBLED.findall(words)))
        said, hidden = _PROGRESS.sub("", words), self.address.secrets
        if self._too_new and _HARMLESS.search(words) and not real and status == 1:
            return
        if status < 0 or not real:
            raise process.failure([self.program.path], status, said, hidden)
        errors = [worded(one, self.address, secrets=hidden) for one in real]
        error = next((one for one in errors if type(one) is not ToolFailed), errors[0])
        if type(error) is not ToolFailed:
            raise error
        hint = error.hint or in_one_line(said, hidden)
        raise Stumbled(f"pg_restore failed: {error.what}", on=error.on, hint=hint, entries=entries)


def _with_path(path: str) -> tuple[str, ...]:
    """As a word of PGOPTIONS, in which a backslash keeps white space, of whatever kind."""
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
