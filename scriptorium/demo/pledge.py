"""What the writer promises of its transactions, and how a copy of its database is held to it.

Transaction n adds one reading log (``live-n``) with its two relationships and sets a counter to n; every fifth one also
adds a person, a book and who wrote it. In any consistent copy all of these agree, and the counter is at least what was
acknowledged (committed, then written to the log file) before the copy began.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from scriptorium.demo.rows import COUNTER_KEY

PREFIX = "live-"
BOOK_EVERY = 5  # transactions
_POOL_BYTES = 128 << 20
_LOG = f"(l:ReadingLog) WHERE starts_with(l.id, '{PREFIX}')"
_COUNTS = {
    "reading logs": f"MATCH {_LOG} RETURN count(l)",
    "logs of a reader": f"MATCH (:User)-[:LOGGED]->{_LOG} RETURN count(l)",
    "logs of a book": f"MATCH (b:Book)<-[:FOR_BOOK]-{_LOG} RETURN count(l)",
    "books": f"MATCH (b:Book) WHERE starts_with(b.id, '{PREFIX}') RETURN count(b)",
    "people": f"MATCH (p:Person) WHERE starts_with(p.id, '{PREFIX}') RETURN count(p)",
    "authorships": f"MATCH (p:Person)-[:AUTHORED]->(b:Book) WHERE starts_with(b.id, '{PREFIX}') RETURN count(p)",
}


@dataclass(frozen=True, slots=True)
class Pledge:
    """What a database says: the counter, and how many there are of each thing that was added."""

    counter: int
    counts: tuple[tuple[str, int], ...]

    def broken(self, acknowledged: int = 0) -> tuple[str, ...]:
        """In words, what does not agree; nothing when all is well. ``acknowledged``: the least the counter may be."""
        return tuple(self._faults(acknowledged))

    def _faults(self, acknowledged: int) -> Iterator[str]:
        if self.counter < acknowledged:
            yield f"transaction {acknowledged} was acknowledged, but only {self.counter} are there"
        for name, found in self.counts:
            expected = self.counter // BOOK_EVERY if name in ("books", "people", "authorships") else self.counter
            if found != expected:
                yield f"{found} {name} after {self.counter} transactions, {expected} expected"


def read_pledge(database: Path) -> Pledge:
    """Read a copy of the writer's database (never the living file: it is locked). Opens it in this process, so give it
    only what was examined before."""
    import kuzu

    with (
        kuzu.Database(database, read_only=True, buffer_pool_size=_POOL_BYTES) as opened,
        kuzu.Connection(opened) as connection,
    ):

        def number(query: str) -> int:
            result = connection.execute(query)
            assert not isinstance(result, list)
            return cast(int, cast(list[object], result.get_next())[0])

        counter = number(f"MATCH (g:GlobalMetadata) WHERE g.book_id = '{COUNTER_KEY}' RETURN g.revision")
        return Pledge(counter, tuple((name, number(query)) for name, query in _COUNTS.items()))


def acknowledged(log: Path) -> int:
    """The last transaction that the writer has acknowledged; 0 before the first."""
    try:
        lines = log.read_bytes().split(b"\n")
    except FileNotFoundError:
        return 0
    return int(lines[-2]) if len(lines) > 1 else 0  # what follows the last line end is not yet whole
