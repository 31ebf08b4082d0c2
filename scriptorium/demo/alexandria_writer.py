"""A process that keeps a demo Alexandria library living: ``python -m scriptorium.demo.alexandria_writer``.

It writes one transaction after the other until it gets SIGTERM. The database's address comes in the variable that
``--address-from`` names (never as an argument: there is a password in it). Transaction n adds an item, its author's
relation, a line of the audit log, and sets a counter to n; so in every consistent copy these agree, and the counter is
at least what was acknowledged before the copy began.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import process
from scriptorium.demo import words
from scriptorium.demo.alexandria import COUNTER_KEY
from scriptorium.demo.pledge import acknowledged
from scriptorium.errors import ToolFailed, ToolStalled, UsageError

if TYPE_CHECKING:
    import psycopg

ADDRESS_VARIABLE = "SCRIPTORIUM_DEMO_DATABASE"
_MARK = "demo-live"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_ITEM = (
    "INSERT INTO items (uuid, title, media_type, language, publisher, tags, date_added, date_modified) VALUES "
    "(gen_random_uuid(), %s, 'book', 'en', %s, ARRAY['live'], now(), now()) RETURNING id"
)
_AUTHOR = "INSERT INTO item_creators SELECT %s, min(id), 'author', 0 FROM creators"
_LOG = (
    "INSERT INTO audit_logs (event_type, event_category, resource_id, details, created_at) "
    "VALUES (%s, 'demo', %s, '{}', now())"
)
_COUNT = "UPDATE system_settings SET value = %s, updated_at = now() WHERE key = %s"


@dataclass(frozen=True, slots=True)
class Writer:
    """A writer that runs in a process of its own."""

    pid: int
    log: Path

    def acknowledged(self) -> int:
        """The last transaction whose commit is done."""
        return acknowledged(self.log)


@dataclass(frozen=True, slots=True)
class Pledge:
    """What a copy of the database says: the counter, and how many of each thing were added."""

    counter: int
    items: int
    relations: int
    lines: int

    def broken(self, acknowledged: int = 0) -> tuple[str, ...]:
        """In words, what does not agree; nothing when all is well."""
        faults = []
        if self.counter < acknowledged:
            faults.append(f"transaction {acknowledged} was acknowledged, but only {self.counter} are there")
        for name, found in (("items", self.items), ("relations", self.relations), ("lines", self.lines)):
            if found != self.counter:
                faults.append(f"{found} {name} after {self.counter} transactions")
        return tuple(faults)


def read_pledge(address: str) -> Pledge:
    """Read a copy of the writer's database."""
    import psycopg

    with psycopg.connect(address) as session:
        row = session.execute(
            "SELECT (SELECT value::int FROM system_settings WHERE key = %s), "
            "(SELECT count(*) FROM items WHERE publisher = %s), "
            "(SELECT count(*) FROM item_creators c JOIN items i ON i.id = c.item_id WHERE i.publisher = %s), "
            "(SELECT count(*) FROM audit_logs WHERE event_type = %s)",
            (COUNTER_KEY, _MARK, _MARK, _MARK),
        ).fetchone()
    assert row is not None
    return Pledge(*(int(value) for value in row))


@contextlib.contextmanager
def writing(address: str, log: Path, *, every: float = 0.01) -> Iterator[Writer]:
    """Keep a demo library living for the duration of the block. ``every``: seconds between transactions.

    The writer has committed once when the block begins. ``ToolFailed`` when it could not start or ended badly.
    """
    argv = [sys.executable, "-m", "scriptorium.demo.alexandria_writer", "--log", str(log), "--every", str(every)]
    ready, writing_end = os.pipe()
    try:
        child = process.start(
            [*argv, "--ready-fd", str(writing_end)], env={ADDRESS_VARIABLE: address}, pass_fds=[writing_end]
        )  # fmt: skip
    finally:
        os.close(writing_end)
    try:
        with os.fdopen(ready, "rb") as pipe:
            if not select.select([pipe], [], [], _START_SECONDS)[0]:
                raise ToolStalled(f"the demo's writer wrote nothing within {_START_SECONDS:.0f} s", hint="try again")
            if not pipe.read(1):
                assert child.stderr is not None
                raise process.failure(["writer"], child.wait(), child.stderr.read().decode("utf-8", "replace"))
        yield Writer(child.pid, log)
        if child.poll() is not None:
            raise ToolFailed("the demo's writer ended too early", on=str(log))
    finally:
        status = process.end(child, grace=_STOP_SECONDS)
    if status != 0:
        raise process.failure(["writer"], status, "")


def main(argv: Sequence[str] | None = None) -> int:
    """Write until a signal ends it; returns 0."""
    import psycopg

    parser = argparse.ArgumentParser(prog="python -m scriptorium.demo.alexandria_writer", description=__doc__)
    parser.add_argument("--address-from", default=ADDRESS_VARIABLE, help="the variable with the database's address")
    parser.add_argument("--every", type=float, default=0.01, metavar="S", help="seconds between transactions")
    parser.add_argument("--log", type=Path, required=True, help="where acknowledgements go")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="a pipe that gets a byte after the first commit")
    options = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    address = process.variable(options.address_from)
    if not address:
        raise UsageError("no address for the demo's writer", on=options.address_from)
    with psycopg.connect(address) as session, options.log.open("ab", 0) as log:
        while not stop.is_set():
            log.write(b"%d\n" % _write(session))
            if options.ready_fd is not None:
                os.write(options.ready_fd, b"1")
                os.close(options.ready_fd)
                options.ready_fd = None
            stop.wait(options.every)
    return 0


def _write(session: psycopg.Connection[tuple[object, ...]]) -> int:
    """One transaction, committed; returns its number."""
    row = session.execute(
        "SELECT value::int + 1 FROM system_settings WHERE key = %s FOR UPDATE", (COUNTER_KEY,)
    ).fetchone()
    assert row is not None
    number = int(str(row[0]))
    title = words.title(words.luck(f"live {number}"))
    item = session.execute(_ITEM, (title, _MARK)).fetchone()
    assert item is not None
    session.execute(_AUTHOR, (item[0],))
    session.execute(_LOG, (_MARK, item[0]))
    session.execute(_COUNT, (str(number), COUNTER_KEY))
    session.commit()
    return number


if __name__ == "__main__":
    sys.exit(main())
