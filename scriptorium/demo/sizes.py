"""Kuzu databases of a wanted size, for benchmarks and tests: quick to make, and as compressible as real ones are."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from scriptorium.demo import words
from scriptorium.demo.prose import prose
from scriptorium.errors import UsageError

if TYPE_CHECKING:
    import kuzu
    import pyarrow as pa

    Strings = pa.Array[pa.StringScalar]
    Integers = pa.Array[pa.Int64Scalar]

_POOL_BYTES = 1 << 30
_GROUP = 131_072  # rows; Kuzu stores tables in groups of this size, and the file grows by whole steps
_EMPTY_BYTES = 5 << 20  # the size of the empty tables
_ROW_BYTES = 1_300  # of the file for a book and its related rows
_LEAST_MEGABYTES = 6
_PARAGRAPHS, _PARAGRAPH_BYTES = 10_000, 200
_TABLES = (
    "CREATE NODE TABLE Book(id STRING, title STRING, description STRING, notes STRING, pages INT64, rating DOUBLE, "
    "added TIMESTAMP, PRIMARY KEY(id))",
    "CREATE NODE TABLE Person(id STRING, name STRING, PRIMARY KEY(id))",
    "CREATE REL TABLE AUTHORED(FROM Person TO Book, role STRING, order_index INT64)",
)


def build_size(path: Path, megabytes: float, seed: int = 1) -> int:
    """Build a database whose file has about ``megabytes`` (2^20 bytes; at least 6); returns its bytes.

    It has books, people and who wrote what. The file grows in steps, so its size may differ by two fifths from the
    wanted one. The same numbers give the same rows. ``UsageError`` if something exists there already.
    """
    import kuzu

    if path.exists():
        raise UsageError("there is something already", on=str(path), hint="name another file")
    if megabytes < _LEAST_MEGABYTES:
        raise UsageError(f"a Kuzu database has at least {_LEAST_MEGABYTES} MB", on=f"{megabytes} MB")
    wanted = int(megabytes * (1 << 20))
    with kuzu.Database(path, buffer_pool_size=_POOL_BYTES) as opened, kuzu.Connection(opened) as connection:
        for statement in _TABLES:
            connection.execute(statement)
        portions = _Portions(connection, words.luck(f"size {seed}"))
        rows = (wanted - _EMPTY_BYTES) // _ROW_BYTES
        for first in range(0, rows, _GROUP):
            portions.load(min(_GROUP, rows - first))
    return path.stat().st_size


class _Portions:
    """Loads portion after portion; text is put together from a stock of paragraphs, with something of its own in
    each row, so that it compresses as prose does and not as repetitions do."""

    def __init__(self, connection: kuzu.Connection, chance: Random) -> None:
        import numpy as np
        import pyarrow as pa

        self._connection = connection
        self._random = np.random.default_rng(chance.getrandbits(64))
        self._titles = pa.array([words.title(chance) for _ in range(2_000)])
        self._names = pa.array([words.person(chance) for _ in range(2_000)])
        text = prose(chance, _PARAGRAPHS * _PARAGRAPH_BYTES).decode()
        self._texts = pa.array(
            [text[start : start + _PARAGRAPH_BYTES] for start in range(0, len(text), _PARAGRAPH_BYTES)]
        )
        self._loaded = 0

    def load(self, rows: int) -> None:
        import pyarrow as pa

        first = self._loaded
        self._loaded += rows
        people = max(1, rows // 3)
        books = self._keys("b", first, rows)
        persons = self._keys("p", first, people)
        self._copy(
            "Book",
            id=books,
            title=self._picked(self._titles, rows),
            description=self._own_text(rows),
            notes=self._own_text(rows),
            pages=pa.array(self._random.integers(20, 1500, rows)),
            rating=pa.array(self._random.random(rows) * 5),
            added=pa.array(self._random.integers(0, 1_700_000_000_000_000, rows)).cast(pa.timestamp("us")),
        )
        self._copy("Person", id=persons, name=self._picked(self._names, people))
        self._copy(
            "AUTHORED",
            start=self._picked(persons, rows),
            end=books,
            role=pa.array(["authored"] * rows),
            order_index=pa.array(self._random.integers(0, 3, rows)),
        )

    def _copy(self, table: str, **columns: object) -> None:
        import pyarrow as pa

        self._connection.execute(f"COPY {table} FROM $rows", {"rows": pa.table(columns)})

    def _keys(self, mark: str, first: int, rows: int) -> Strings:
        import pyarrow as pa

        return pa.array([f"{mark}{number:09d}" for number in range(first, first + rows)])

    def _picked(self, stock: Strings, rows: int) -> Strings:
        return stock.take(self._random.integers(0, len(stock), rows))

    def _own_text(self, rows: int) -> Strings:
        import pyarrow as pa
        import pyarrow.compute as pc

        own = pa.array(self._random.integers(0, 1 << 62, rows)).cast(pa.string())
        parts = (self._picked(self._texts, rows), own, self._picked(self._texts, rows))
        joined: Strings = pc.binary_join_element_wise(*parts, " ")  # type: ignore[call-overload]
        return joined
