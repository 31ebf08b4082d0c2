"""Tables of PostgreSQL: ``pg_restore`` writes the rows of one table as text. No server is needed.

The columns are those of the dump: generated columns are not in it, because a restore computes them again. Every value
is text, in the form in which PostgreSQL writes it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from pathlib import Path

from scriptorium import process
from scriptorium.errors import DamageFound
from scriptorium.model import Part
from scriptorium.sources.postgres.dump.contents import Entry, codec_of_dump, contents, contents_of_head
from scriptorium.sources.postgres.dump.pieces import piece_name, piece_number
from scriptorium.sources.postgres.encodings import escaped, redecoded
from scriptorium.sources.postgres.export.copy_text import copied
from scriptorium.sources.postgres.export.feed import Feed, Portion, arrow, portions
from scriptorium.sources.postgres.programs import Program
from scriptorium.sources.postgres.restore.staging import restorer_for
from scriptorium.sources.tables import Batch, Wanted, unquoted

_GUIDE = "toc.dat"
_DATA = re.compile(r"(\d+)\.dat(\.\w+)?")
_BREAKS = str.maketrans("\r\n", "  ")  # as pg_restore writes names in its list


class PostgresTables:
    """The wanted tables of one part. ``folder``: for members that are spooled; ``tools``: the folder of pg_restore."""

    def __init__(self, part: Part, wanted: Sequence[Wanted], folder: Path, tools: Path | None = None) -> None:
        self._at = part.path
        self._wanted = wanted
        self._folder = folder
        self._tools = tools
        self._database = ""
        self._program: Program | None = None
        self._entries: dict[int, Entry] = {}
        self._left: set[int] = set()
        self._codec = "utf-8"

    @property
    def lacking(self) -> Sequence[str]:
        if self._program is None:
            return [f"{self._at}/<database>/{_GUIDE}"]
        return [f"{self._at}/{self._database}/{number}.dat" for number in sorted(self._left)]

    def may_guide(self, member: str) -> bool:
        return self._below(member)[1:] == [_GUIDE]

    def guide(self, member: str) -> Path | None:
        steps = self._below(member)
        if len(steps) != 2 or steps[1] != _GUIDE:
            return None
        self._database = steps[0]
        return self._folder / _GUIDE

    def guided(self) -> bool:
        return (self._folder / _GUIDE).is_file()

    def follow(self) -> Sequence[Wanted]:
        self._program = restorer_for(self._folder, 0, self._tools)
        self._codec = codec_of_dump(self._folder, self._program)
        return self._choose(contents(self._folder, self._program))

    def _choose(self, entries: Sequence[Entry]) -> Sequence[Wanted]:
        chosen: set[int] = set()
        without = []
        for one in self._wanted:
            found = {entry.number for entry in entries if entry.what == "TABLE DATA" and self._may_be(entry, one)}
            chosen |= found
            if not found and any(entry.what == "TABLE" and self._may_be(entry, one) for entry in entries):
                raise DamageFound("the dump lacks the rows of a table", on=one.table, hint="use another backup")
            if not found:
                without.append(one)
        self._entries = {entry.number: entry for entry in entries if entry.number in chosen}
        self._left = chosen
        return without

    def _may_be(self, entry: Entry, one: Wanted) -> bool:
        """Whether a line of the list may be about the table. Names are not quoted there, so the line of ``a b`` also
        matches ``a``. The real name is known when the rows are read."""
        names = " ".join(unquoted(one.table)).translate(_BREAKS)
        return escaped(redecoded(entry.rest, self._codec)).startswith(f"{names} ")

    def data(self, member: str) -> Path | None:
        steps = self._below(member)
        match = _DATA.fullmatch(steps[-1]) if len(steps) == 2 and steps[0] == self._database else None
        return self._folder / steps[1] if match and int(match[1]) in self._left else None

    def read(self, member: str) -> Generator[Batch, None, None]:
        match = _DATA.fullmatch(member.rpartition("/")[2])
        assert match is not None and self._program is not None
        number = int(match[1])
        argv = [self._program.path, "--data-only", f"--use-list={self._list([self._entries[number]])}", "--file=-"]
        with process.stream([*argv, str(self._folder)], env={"LC_ALL": "C"}) as text:
            found = copied(text)
            if found is None:
                raise DamageFound("the dump lacks the rows of a table", on=member, hint="use another backup")
            for rows in portions(found):
                yield from self._batch(Portion(found.name, found.columns, rows))
            for _ in text:
                pass
        self._left.discard(number)

    def _list(self, entries: Sequence[Entry]) -> Path:
        chosen = self._folder / "chosen"
        chosen.write_text("".join(f"{entry.line}\n" for entry in entries), "utf-8", "surrogateescape")
        return chosen

    def _batch(self, portion: Portion) -> Generator[Batch, None, None]:
        """Yields nothing for a table that only has a similar name."""
        table = next((one for one in self._wanted if unquoted(one.table) == portion.name), None)
        if table is not None:
            yield Batch(table, len(portion.rows), arrow(portion.columns, portion.rows))

    def rest(self) -> Generator[Batch, None, None]:
        yield from ()

    def close(self) -> None: ...

    def _below(self, member: str) -> list[str]:
        return member[len(self._at) + 1 :].split("/") if member.startswith(f"{self._at}/") else []


class StreamedTables(PostgresTables):
    """The same for a part whose dump was streamed. Its pieces are written to one pg_restore, which reads all tables."""

    _heads = 0
    _given = 0
    _feed: Feed | None = None

    @property
    def lacking(self) -> Sequence[str]:
        done = self._program is not None and (not self._entries or (self._feed is not None and self._feed.done))
        return [] if done else [f"{self._at}/{self._database or '<database>'}/{piece_name(self._given + 1)}"]

    def may_guide(self, member: str) -> bool:
        return self._number(member) is not None

    def guide(self, member: str) -> Path | None:
        if self._program is not None or self._number(member) != self._heads + 1:
            return None
        self._heads += 1
        self._database = self._below(member)[0]
        return self._folder / "piece"

    def guided(self) -> bool:
        piece = self._folder / "piece"
        if self._program is None and piece.exists():
            with piece.open("rb") as more, self._head.open("ab") as head:
                while chunk := more.read(1 << 20):
                    head.write(chunk)
            piece.unlink()
            program = restorer_for(self._head, 0, self._tools, whole=False)
            if contents_of_head(self._head, program) is not None:
                self._program = program
        return self._program is not None

    @property
    def _head(self) -> Path:
        return self._folder / "head"

    def follow(self) -> Sequence[Wanted]:
        assert self._program is not None
        self._codec = codec_of_dump(self._head, self._program)
        without = self._choose(contents(self._head, self._program))
        self._head.unlink()
        return without

    def data(self, member: str) -> Path | None:
        return self._folder / "piece" if self.lacking and self._number(member) is not None else None

    def read(self, member: str) -> Generator[Batch, None, None]:
        self._given += 1
        if self._number(member) != self._given:
            raise DamageFound("a piece of the dump is missing", on=piece_name(self._given), hint="use another copy")
        assert self._program is not None
        if self._feed is None:
            self._feed = Feed(self._program, self._list(list(self._entries.values())), self._codec)
        for portion in self._feed.give(self._folder / "piece"):
            yield from self._batch(portion)

    def rest(self) -> Generator[Batch, None, None]:
        for portion in self._feed.rest() if self._feed is not None else ():
            yield from self._batch(portion)

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()

    def _number(self, member: str) -> int | None:
        steps = self._below(member)
        mine = len(steps) == 2 and self._database in ("", steps[0])
        return piece_number(steps[1]) if mine else None
