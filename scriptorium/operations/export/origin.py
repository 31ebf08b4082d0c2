"""What both kinds of databases have in common on their way out of an archive.

An origin is one part. Its **guide** (a small member: Kuzu's list of files, PostgreSQL's table of contents) is read
first; it says which members hold the wanted tables. Then each of those members is spooled, read, and removed. A dump
that was streamed has its guide in its first members, and its rows in all of them, one table behind the other.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scriptorium.operations.export.tables import Wanted

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a table."""

    table: Wanted
    rows: int
    data: pa.RecordBatch


class Origin(Protocol):
    """One part whose tables are wanted. Everything raises ``DamageFound`` for what is not as it must be."""

    @property
    def lacking(self) -> Sequence[str]:
        """What has not been read yet: the guide, then members."""
        ...

    def guide(self, member: str) -> Path | None:
        """Where the member is to be spooled when it is the guide, or the next member of it."""
        ...

    def guided(self) -> bool:
        """Whether the guide is all there; asked after each member."""
        ...

    def follow(self) -> Sequence[Wanted]:
        """Read the spooled guide; returns the wanted tables that the archive has no rows of (sequences, views)."""
        ...

    def data(self, member: str) -> Path | None:
        """Where the member is to be spooled when it holds rows of a wanted table."""
        ...

    def read(self, member: str) -> Generator[Batch, None, None]:
        """The rows in the spooled member; a batch for each of its tables at least, perhaps of no rows. Rows of members
        that belong together may come with a later one."""
        ...

    def rest(self) -> Generator[Batch, None, None]:
        """Behind the last member: the rows that are still on their way."""
        ...

    def close(self) -> None:
        """Give up what is still open."""
        ...
