"""A process that keeps a demo library living: ``python -m scriptorium.demo.writer HOME``.

It holds the database open read-write, as the application does, and writes one transaction after the other (see
``pledge``) until it gets SIGTERM or SIGINT, its standard input (where that is a pipe) is closed, or its time is up;
then it closes the database cleanly. Each transaction is acknowledged in a log file after its commit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from scriptorium import process
from scriptorium.demo import words
from scriptorium.demo.bibliotheca import DATABASE
from scriptorium.demo.pledge import BOOK_EVERY, PREFIX, acknowledged
from scriptorium.demo.rows import COUNTER_KEY
from scriptorium.errors import LibraryBusy, ScriptoriumError, ToolFailed, ToolStalled, UsageError
from scriptorium.wording import legible

if TYPE_CHECKING:
    import kuzu

_POOL_BYTES = 256 << 20
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LOG_STATEMENT = (
    "MATCH (u:User {id: $reader}), (b:Book {id: $book}) CREATE (u)-[:LOGGED {created_at: $now}]->"
    "(:ReadingLog {id: $id, user_id: $reader, book_id: $book, date: $day, pages_read: $pages, minutes_read: $pages, "
    "notes: $note, created_at: $now, updated_at: $now})-[:FOR_BOOK {created_at: $now}]->(b)"
)
_BOOK_STATEMENT = (
    "CREATE (:Person {id: $id, name: $name, normalized_name: $name, created_at: $now})-[:AUTHORED {role: 'authored', "
    "order_index: 0, created_at: $now}]->(:Book {id: $id, title: $title, normalized_title: $title, quantity: 1, "
    "description: $note, created_at: $now, updated_at: $now})"
)
_COUNT_STATEMENT = "MATCH (g:GlobalMetadata {book_id: $key}) SET g.revision = $number, g.updated_at = $now"


# --- seen from outside --------------------------------------------------------------------------------------------


def default_log(home: Path) -> Path:
    return home.absolute().parent / "writer.log"


@dataclass(frozen=True, slots=True)
class Writer:
    """A writer that runs in a process of its own."""

    pid: int
    log: Path

    def acknowledged(self) -> int:
        """The last transaction whose commit is done."""
        return acknowledged(self.log)


@contextlib.contextmanager
def writing(home: Path, *, every: float = 0.02, log: Path | None = None) -> Iterator[Writer]:
    """Keep a demo library living for the duration of the block. ``every``: seconds between transactions.

    The writer has committed once when the block begins. ``ToolFailed`` when it could not start or ended badly.
    """
    log = log or default_log(home)
    argv = [sys.executable, "-m", "scriptorium.demo.writer", str(home), "--every", str(every), "--log", str(log)]
    ready, writing_end = os.pipe()
    try:
        child = process.start([*argv, "--ready-fd", str(writing_end)], pass_fds=[writing_end])
    finally:
        os.close(writing_end)
    try:
        _await_first_commit(child, ready)
        yield Writer(child.pid, log)
        if child.poll() is not None:
            raise ToolFailed("the demo's writer ended too early", on=str(home), hint=f"see {log}")
    finally:
        status = process.end(child, grace=_STOP_SECONDS)
    if status != 0:
        raise process.failure(["writer"], status, "")


def _await_first_commit(child: process.Child, ready: int) -> None:
    with open(ready, "rb") as pipe:
        if not select.select([pipe], [], [], _START_SECONDS)[0]:
            raise ToolStalled(f"the demo's writer wrote nothing within {_START_SECONDS:.0f} s", hint="try again")
        if not pipe.read(1):
            assert child.stderr is not None
            raise process.failure(["writer"], child.wait(), child.stderr.read().decode("utf-8", "replace"))


# --- the process itself -------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Write until a signal ends it; returns the exit status of the errors' contract."""
    parser = argparse.ArgumentParser(
        prog="python -m scriptorium.demo.writer", description="Keep a demo library living."
    )
    parser.add_argument("home", type=Path, help="a folder that build_bibliotheca made")
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--every", type=float, default=0.02, metavar="S", help="seconds between transactions")
    parser.add_argument("--checkpoint", type=int, default=100, metavar="N", help="a checkpoint after N transactions")
    parser.add_argument("--log", type=Path, help="where acknowledgements go (default: writer.log beside HOME)")
    parser.add_argument(
        "--ready-fd", type=int, metavar="N", help="a pipe that gets a byte after the first commit, and is closed"
    )
    options = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _stop_at_end_of_input(stop)
    try:
        database = _existing(options.home)
        with _opened(database) as connection, (options.log or default_log(options.home)).open("ab", 0) as log:
            scribe = Scribe(connection)
            deadline = time.monotonic() + (options.seconds if options.seconds is not None else float("inf"))
            while not stop.is_set() and time.monotonic() < deadline:
                log.write(b"%d\n" % scribe.write())
                if options.ready_fd is not None:
                    os.write(options.ready_fd, b"1")
                    os.close(options.ready_fd)
                    options.ready_fd = None
                if options.checkpoint and scribe.number % options.checkpoint == 0:
                    connection.execute("CHECKPOINT")
                stop.wait(options.every)
    except ScriptoriumError as error:
        sys.stderr.write(f"{error}\n" + (f"{legible(error.hint)}\n" if error.hint else ""))
        return error.exit_code
    return 0


def _stop_at_end_of_input(stop: threading.Event) -> None:
    """Stop when the pipe of standard input ends: the process that started us has died. The end of another input
    (``/dev/null``) means nothing."""
    if sys.stdin is None or sys.stdin.closed:
        return
    kind = os.fstat(0).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return

    def wait() -> None:
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=wait, daemon=True).start()


def _existing(home: Path) -> Path:
    database = home / DATABASE
    if not database.is_file():
        raise UsageError("no demo library here", on=str(home), hint="build one: scriptorium demo")
    return database


@contextlib.contextmanager
def _opened(database: Path) -> Iterator[kuzu.Connection]:
    import kuzu

    try:
        opened = kuzu.Database(database, buffer_pool_size=_POOL_BYTES)
    except RuntimeError as error:
        if "lock" in str(error):
            raise LibraryBusy("another process has the database open", on=str(database), hint="end it first") from None
        raise ToolFailed(f"Kuzu cannot open the database: {error}", on=str(database)) from None
    with opened, kuzu.Connection(opened) as connection:
        yield connection


@dataclass(slots=True)
class Scribe:
    """Writes transactions, each of them keeping the pledge. ``number``: of the last one."""

    connection: kuzu.Connection
    number: int = 0
    _readers: list[str] = field(default_factory=list)
    _books: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.number = int(str(self._column("MATCH (g:GlobalMetadata {book_id: $key}) RETURN g.revision")[0]))
        self._readers = [str(key) for key in self._column("MATCH (u:User) RETURN u.id ORDER BY u.id")]
        self._books = [str(key) for key in self._column("MATCH (b:Book) RETURN b.id ORDER BY b.id LIMIT 500")]

    def _column(self, query: str) -> list[object]:
        parameters = {"key": COUNTER_KEY} if "$key" in query else {}
        result = self.connection.execute(query, parameters)
        assert not isinstance(result, list)
        return [cast(list[object], row)[0] for row in result.get_all()]

    def write(self) -> int:
        """One transaction; returns its number when it is committed."""
        number = self.number + 1
        chance = words.luck(f"transaction {number}")
        now = datetime.now(UTC).replace(tzinfo=None)
        shared: dict[str, object] = {"id": f"{PREFIX}{number}", "now": now, "note": words.paragraph(chance, 5)}
        execute = self.connection.execute
        execute("BEGIN TRANSACTION")
        execute(
            _LOG_STATEMENT,
            {
                **shared,
                "reader": chance.choice(self._readers),
                "book": chance.choice(self._books),
                "day": now.date(),
                "pages": chance.randint(1, 90),
            },
        )
        if number % BOOK_EVERY == 0:
            execute(_BOOK_STATEMENT, {**shared, "name": words.person(chance), "title": words.title(chance)})
        execute(_COUNT_STATEMENT, {"key": COUNTER_KEY, "number": number, "now": now})
        execute("COMMIT")
        self.number = number
        return number


if __name__ == "__main__":
    sys.exit(main())
