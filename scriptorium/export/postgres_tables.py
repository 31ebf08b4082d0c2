"""Tables of PostgreSQL: ``pg_restore`` writes the rows of one table as text. No server is needed.

The columns are those that the dump holds: generated ones are computed again by a restore, and are not in it. Every
value is text, in the form in which PostgreSQL writes it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import process
from scriptorium.errors import DamageFound
from scriptorium.export.copy_text import Copied, Value, copied
from scriptorium.export.origin import BATCH_ROWS, Batch
from scriptorium.export.tables import Wanted, unquoted
from scriptorium.model import Part
from scriptorium.sources.postgres_contents import Entry, contents
from scriptorium.sources.postgres_load import restorer_for
from scriptorium.sources.postgres_programs import Program

if TYPE_CHECKING:
    import pyarrow as pa

_GUIDE = "toc.dat"
_DATA = re.compile(r"(\d+)\.dat(\.\w+)?")
_BATCH_CHARACTERS = 8 << 20
_BREAKS = str.maketrans("\r\n", "  ")  # as pg_restore writes names in its list


class PostgresTables:
    """The wanted tables of one part; ``folder`` is for what is spooled, ``tools`` the folder of pg_restore."""

    def __init__(self, part: Part, wanted: Sequence[Wanted], folder: Path, tools: Path | None = None) -> None:
        self._at = part.path
        self._wanted = wanted
        self._folder = folder
        self._tools = tools
        self._database = ""
        self._program: Program | None = None
        self._entries: dict[int, Entry] = {}
        self._left: set[int] = set()

    @property
    def lacking(self) -> Sequence[str]:
        if self._program is None:
            return [f"{self._at}/<database>/{_GUIDE}"]
        return [f"{self._at}/{self._database}/{number}.dat" for number in sorted(self._left)]

    def guide(self, member: str) -> Path | None:
        steps = self._below(member)
        if len(steps) != 2 or steps[1] != _GUIDE:
            return None
        self._database = steps[0]
        return self._folder / _GUIDE

    def follow(self) -> Sequence[Wanted]:
        self._program = restorer_for(self._folder, 0, self._tools)
        entries = contents(self._folder, self._program)
        without = []
        for one in self._wanted:
            found = [entry for entry in entries if entry.what == "TABLE DATA" and _may_be(entry.rest, one)]
            self._entries |= {entry.number: entry for entry in found}
            if not found and any(entry.what == "TABLE" and _may_be(entry.rest, one) for entry in entries):
                raise DamageFound("the dump lacks the rows of a table", on=one.table, hint="use another backup")
            if not found:
                without.append(one)
        self._left = set(self._entries)
        return without

    def data(self, member: str) -> Path | None:
        steps = self._below(member)
        match = _DATA.fullmatch(steps[-1]) if len(steps) == 2 and steps[0] == self._database else None
        return self._folder / steps[1] if match and int(match[1]) in self._left else None

    def read(self, member: str) -> Generator[Batch, None, None]:
        match = _DATA.fullmatch(member.rpartition("/")[2])
        assert match is not None and self._program is not None
        number = int(match[1])
        chosen = self._folder / "chosen"
        chosen.write_text(f"{self._entries[number].line}\n", "utf-8")
        argv = [self._program.path, "--data-only", f"--use-list={chosen}", "--file=-", str(self._folder)]
        with process.stream(argv, env={"LC_ALL": "C"}) as text:
            found = copied(text)
            if found is None:
                raise DamageFound("the dump lacks the rows of a table", on=member, hint="use another backup")
            table = next((one for one in self._wanted if unquoted(one.table) == found.name), None)
            for rows in _batches(found):
                if table is not None:
                    yield Batch(table, len(rows), _arrow(found.columns, rows))
            for _ in text:
                pass
        self._left.discard(number)

    def _below(self, member: str) -> list[str]:
        return member[len(self._at) + 1 :].split("/") if member.startswith(f"{self._at}/") else []


def _may_be(rest: str, one: Wanted) -> bool:
    """Whether a line of the list is about the table. Its names are not quoted there, so ``a`` may be ``a b`` as well:
    which it is, is known when its rows are read."""
    return rest.startswith(f"{' '.join(unquoted(one.table)).translate(_BREAKS)} ")


def _batches(found: Copied) -> Iterator[list[list[Value]]]:
    """The rows in portions; first one of none, which says which columns there are."""
    yield []
    rows: list[list[Value]] = []
    characters = 0
    for row in found.rows:
        rows.append(row)
        characters += sum(len(value) for value in row if value)
        if len(rows) == BATCH_ROWS or characters > _BATCH_CHARACTERS:
            yield rows
            rows, characters = [], 0
    if rows:
        yield rows


def _arrow(columns: Sequence[str], rows: list[list[Value]]) -> pa.RecordBatch:
    import pyarrow as pa

    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in values], names=list(columns))
