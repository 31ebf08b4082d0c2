"""Running ``pg_restore``: an error is an error, with the few exceptions that are named here.

The data goes in first, then the indexes, then what locks a table against its readers, primary keys above all; the facts
of the tables are taken meanwhile (``postgres_reading``).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium import process
from scriptorium.crashpoints import reach
from scriptorium.errors import ToolFailed, ToolMissing
from scriptorium.model import TableFacts
from scriptorium.sources.postgres_connection import Address
from scriptorium.sources.postgres_errors import in_our_words, worded
from scriptorium.sources.postgres_facts import read_facts, relations
from scriptorium.sources.postgres_programs import Program
from scriptorium.sources.postgres_reading import Reading
from scriptorium.sources.postgres_stalling import StallWatch

# A client of 17 or newer sets this before anything else, and an older server does not know it.
_HARMLESS = re.compile(r'unrecognized configuration parameter "transaction_timeout"')
_NEVER_INDEXED = ("INDEX ATTACH", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER", "EVENT TRIGGER", "RULE",
                  "POLICY", "ROW SECURITY", "STATISTICS", "COMMENT", "MATERIALIZED VIEW DATA", "PUBLICATION",
                  "PUBLICATION TABLE", "SUBSCRIPTION")  # fmt: skip
_AFTER = re.compile(rf"\d+; \d+ \d+ ({'|'.join(sorted(_NEVER_INDEXED, key=len, reverse=True))}|INDEX|[A-Z]+) ")
_ERROR = re.compile(r"^pg_restore: error: (.*)$", re.MULTILINE)
# Safe for a database that nobody uses yet: the switch commits synchronously, and what came before is then on disk.
_FAST = "-c synchronous_commit=off -c maintenance_work_mem=256MB"


@dataclass(frozen=True, slots=True)
class Restorer:
    """``address``: the database to restore into; ``server_major`` its server's; ``switches``: more for pg_restore;
    ``stall_timeout``: seconds that it may stand still (0: no limit)."""

    program: Program
    address: Address
    server_major: int
    jobs: int = 1
    switches: tuple[str, ...] = ()
    stall_timeout: float = 0.0

    def whole(self, dump: Path) -> None:
        """Everything in one go, in place of what is there, in one transaction: all of it or nothing."""
        require_one_transaction(self.program, self.server_major)
        self._run(dump, ["--clean", "--if-exists", "--single-transaction"])

    def beside(self, dump: Path, expected: Mapping[str, TableFacts] | None) -> Mapping[str, TableFacts]:
        """Into an empty database; returns what it holds then."""
        parallel = [f"--jobs={self.jobs}"]
        self._run(dump, ["--section=pre-data"])
        with Reading(self.address, expected or {}) as reading:
            self._run(dump, [*parallel, "--section=data"])
            reach("database.filled")
            reading.all_is_there()
            with _steps(dump, self.program) as (first, last):
                if first:
                    self._run(dump, [*parallel, *first])
                with self._started(dump, [*parallel, *last]):
                    facts = reading.facts()
        reach("database.indexed")
        with self.address.session() as session:
            session.execute("ANALYZE")
            views = [one for one in relations(session) if one.kind == "m"]
            return facts | dict(read_facts(session, views, expected=expected or {}).tables)

    @property
    def _too_new(self) -> bool:
        return is_too_new(self.program, self.server_major)

    def _run(self, dump: Path, switches: Sequence[str]) -> None:
        with self._started(dump, switches):
            pass

    @contextlib.contextmanager
    def _started(self, dump: Path, switches: Sequence[str]) -> Iterator[None]:
        """pg_restore beside the block; leaving the block waits for it and raises what went wrong."""
        strict = [] if self._too_new else ["--exit-on-error"]
        application = f"scriptorium restore {secrets.token_hex(4)}"
        target = f"--dbname={self.address.of_child(application, sends=True)}"
        argv = [self.program.path, *strict, "--no-password", *self.switches, *switches, target, str(dump)]
        environment = self.address.environment(application)
        environment["PGOPTIONS"] = f"{process.variable('PGOPTIONS') or ''} {_FAST}".strip()
        with os.fdopen(os.memfd_create("pg_restore"), "w+b") as said:
            child = process.start(argv, env=environment, stdout=said.fileno(), stderr=said.fileno())
            try:
                reach("database.restoring")
                with StallWatch(child, "pg_restore", self.address, application, self.stall_timeout):
                    with in_our_words(self.address, secrets=self.address.secrets):
                        yield
                    status = child.wait()
            finally:
                process.end(child)
            said.seek(0)
            words = said.read().decode("utf-8", "replace")
        if status != 0:
            self._judge(status, words)

    def _judge(self, status: int, words: str) -> None:
        errors = _ERROR.findall(words)
        real = [error for error in errors if not _HARMLESS.search(error)]
        if errors and not real and status == 1:
            return
        if status < 0 or not real:
            raise process.failure([self.program.path], status, words, self.address.secrets)
        hidden = self.address.secrets
        error = worded(real[0], self.address, secrets=hidden)
        if type(error) is ToolFailed and not error.hint:
            raise ToolFailed(f"pg_restore failed: {error.what}", on=error.on, hint=process.mask(words[-400:], hidden))
        raise error


def is_too_new(program: Program, server_major: int) -> bool:
    """Whether the program says something that the server does not know: harmless, but an error."""
    return program.version[0] >= 17 > server_major


def require_one_transaction(program: Program, server_major: int) -> None:
    """``ToolMissing`` where that error would end the transaction that is to hold the whole restore."""
    if is_too_new(program, server_major):
        raise ToolMissing(
            f"a pg_restore of {server_major} to 16 is needed to restore in one transaction",
            on=str(program),
            hint=f"install it: apt-get install postgresql-client-{server_major}",
        )


@contextlib.contextmanager
def _steps(dump: Path, program: Program) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """What comes after the data in two steps, as switches: indexes, then the rest. All in the last one where an index
    may need something of the rest (a materialized view that needs a primary key)."""
    after = ["--section=post-data"]
    listed = process.run([program.path, *after, "--list", str(dump)], timeout=600).stdout.decode("utf-8", "replace")
    entries = {line: found[1] for line in listed.splitlines() if (found := _AFTER.match(line))}
    indexes = [line for line, kind in entries.items() if kind == "INDEX"]
    known = all(kind in _NEVER_INDEXED for kind in entries.values() if kind != "INDEX")
    if not indexes or not known:
        yield [], after
        return
    with tempfile.TemporaryDirectory(prefix="scriptorium-") as folder:
        lists = Path(folder, "indexes"), Path(folder, "rest")
        lists[0].write_text("\n".join(indexes) + "\n", "utf-8", "surrogateescape")
        lists[1].write_text(
            "\n".join(line for line in entries if line not in indexes) + "\n", "utf-8", "surrogateescape"
        )
        yield [*after, f"--use-list={lists[0]}"], [*after, f"--use-list={lists[1]}"]
