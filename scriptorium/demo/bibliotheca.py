"""Build a Bibliotheca installation to try things on: a Kuzu database in the application's schema, and its files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.demo import installation
from scriptorium.demo.rows import Row, Rows
from scriptorium.demo.schema import NODES, RELATIONSHIPS, arrow_schema, create_tables
from scriptorium.errors import UsageError

DATABASE = Path("data", "kuzu", "bibliotheca.db")
_POOL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Summary:
    """What was built. ``tables``: rows of every table; ``bytes``: the size of the database file."""

    home: Path
    database: Path
    bytes: int
    books: int
    people: int
    readers: int
    reading_logs: int
    relationships: int
    covers: int
    tables: Mapping[str, int]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.books:,} books, {self.people:,} people, {self.readers} readers, "
            f"{self.reading_logs:,} reading logs, {self.relationships:,} relationships ({self.bytes / 1e6:.1f} MB); "
            f"{self.covers} covers"
        )


def build_bibliotheca(
    home: Path,
    *,
    books: int = 2000,
    covers: int = 300,
    seed: int = 1,
    advance: Callable[[str], None] | None = None,
) -> Summary:
    """Build an installation in ``home``, which must be empty or absent (``UsageError``).

    ``covers``: pictures, for the first books. ``advance`` gets a few words on what is being made. The same
    numbers and seed give the same rows and files.
    """
    began = time.monotonic()
    if books < 1 or covers < 0:
        raise UsageError("a demo library has at least one book", on=f"{books} books, {covers} covers")
    _empty(home)
    say = advance or (lambda _: None)
    data = home / "data"
    (data / "kuzu").mkdir(parents=True)
    say("files")
    paths = installation.cover_paths(covers, seed)
    installation.write_configuration(home, seed)
    installation.write_user_files(data, seed)
    installation.write_volatile_files(data, seed)
    say(f"{covers} covers")
    installation.write_covers(data, paths, seed)
    say(f"{books} books")
    tables = Rows(books, paths, seed).tables()
    say("database")
    _load(home / DATABASE, tables)
    counts = {name: len(tables.get(name, ())) for name in (*NODES, *RELATIONSHIPS)}
    return Summary(
        home=home,
        database=home / DATABASE,
        bytes=(home / DATABASE).stat().st_size,
        books=counts["Book"],
        people=counts["Person"],
        readers=counts["User"],
        reading_logs=counts["ReadingLog"],
        relationships=sum(counts[name] for name in RELATIONSHIPS),
        covers=covers,
        tables=counts,
        seconds=time.monotonic() - began,
    )


def _empty(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        occupied = any(home.iterdir())
    except OSError as error:
        raise UsageError(f"this cannot be the home of a library ({error.strerror})", on=str(home)) from None
    if occupied:
        raise UsageError("a demo library is only built in an empty folder", on=str(home), hint="name another folder")


def _load(database: Path, tables: Mapping[str, Sequence[Row]]) -> None:
    """All tables in one transaction, each by one bulk ``COPY``; closed cleanly, so that one file is all there is."""
    import kuzu
    import pyarrow as pa

    with (
        kuzu.Database(database, buffer_pool_size=_POOL_BYTES) as opened,
        kuzu.Connection(opened) as connection,
    ):
        connection.execute("BEGIN TRANSACTION")
        create_tables(connection)
        for name in (*NODES, *RELATIONSHIPS):
            if rows := tables.get(name):
                table = pa.Table.from_pylist(list(rows), schema=arrow_schema(name))
                connection.execute(f"COPY {name} FROM $rows", {"rows": table})
        connection.execute("COMMIT")
