"""Tables of a database that are read from an archive: the common part of all kinds of databases.

An origin is one part. Its **guide** (a small member: Kuzu's list of files, PostgreSQL's table of contents) is read
first; it says which members hold the wanted tables. Then each of those members is spooled, read, and removed. A dump
that was streamed has its guide in its first members, and its rows in all of them, one table after another.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scriptorium.model import Part

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 10_000
_STEP = re.compile(r'"(?:[^"]|"")*"|[^".]+')


@dataclass(frozen=True, slots=True)
class Wanted:
    """A table that is to be exported: where it lies, how many rows it must have, its file's name without an ending."""

    part: Part
    table: str
    rows: int
    stem: str


def unquoted(name: str) -> tuple[str, ...]:
    """``public."Odd name"`` as its plain steps: schema and table."""
    return tuple(plain(step) for step in _STEP.findall(name))


def plain(step: str) -> str:
    """A name of SQL without its quotes."""
    return step[1:-1].replace('""', '"') if step.startswith('"') and len(step) > 1 else step


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a table."""

    table: Wanted
    rows: int
    data: pa.RecordBatch


class Origin(Protocol):
    """One part whose tables are wanted. Every method raises ``DamageFound`` for damaged contents."""

    @property
    def lacking(self) -> Sequence[str]:
        """What has not been read yet: the guide, then members."""
        ...

    def may_guide(self, member: str) -> bool:
        """Whether the member may be needed for the guide; asking changes nothing."""
        ...

    def guide(self, member: str) -> Path | None:
        """Where the member is to be spooled when it is the guide, or the next member of it."""
        ...

    def guided(self) -> bool:
        """Whether the guide is complete; asked after each member."""
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
        """After the last member: the rows that were not returned yet."""
        ...

    def close(self) -> None:
        """Close what is still open."""
        ...
