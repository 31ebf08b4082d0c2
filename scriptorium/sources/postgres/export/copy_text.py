"""The text of PostgreSQL's ``COPY``, as ``pg_restore`` writes it: table, columns and values.

A value is text; ``None`` is NULL. The format is described in PostgreSQL's manual, chapter "COPY", section "Text
Format": tabs between values, ``\\N`` for NULL, a backslash before special characters, ``\\.`` at the end.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from scriptorium.errors import DamageFound, PermanentError
from scriptorium.sources.tables import plain, unquoted

Value = str | None
_NAME = r'(?:"(?:[^"]|"")*"|[^\s",.()]+)'
_COPY = re.compile(rf"COPY ({_NAME}\.{_NAME}) +(?:\(((?:{_NAME}(?:, )?)*)\) +)?FROM stdin;\n")
_COLUMN = re.compile(_NAME)
_ENCODING = re.compile(rb"SET client_encoding = '(\w+)';\n")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_CODECS = {"SQL_ASCII": "utf-8", "KOI8R": "koi8_r", "KOI8U": "koi8_u"}
_LONGEST_STATEMENT = 1 << 20
_HINT = "use another copy of this backup"


@dataclass(frozen=True, slots=True)
class Copied:
    """One table of the text: its schema and name, its columns, and its rows, which can be read once."""

    name: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Iterator[list[Value]]


def copied(stream: BinaryIO, codec: str = "utf-8") -> Copied | None:
    """The next table in the text; ``None`` if there is none. The text states its encoding only before its first table:
    for the following ones it is given as ``codec``.

    ``DamageFound`` if the text ends early or is no COPY; ``PermanentError`` for bytes that are not valid text.
    """
    for line in stream:
        if found := _ENCODING.fullmatch(line):
            codec = _codec(found[1].decode())
        if line.startswith(b"COPY "):
            statement = line
            while not (match := _COPY.fullmatch(_decoded(statement, codec))):
                more = stream.readline()  # a name may hold a line break
                if not more or len(statement) > _LONGEST_STATEMENT:
                    raise DamageFound("the dump has a statement that is no COPY", hint=_HINT)
                statement += more
            columns = tuple(plain(name) for name in _COLUMN.findall(match[2] or ""))
            return Copied(unquoted(match[1]), columns, _rows(stream, len(columns), codec))
    return None


def _codec(encoding: str) -> str:
    """Python's name of a PostgreSQL encoding. A database without a known one (SQL_ASCII) must contain UTF-8."""
    name = _CODECS.get(encoding, re.sub(r"^WIN(?=\d)", "cp", encoding))
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise PermanentError(
            "this encoding cannot be read", on=encoding, hint="restore the database and export it with psql"
        ) from None


def _decoded(line: bytes, codec: str) -> str:
    try:
        return line.decode(codec)
    except UnicodeDecodeError as error:
        raise PermanentError(
            f"the table contains bytes that are no text: {error.reason}",
            on=repr(line[max(error.start - 20, 0) : error.end + 20]),
            hint="restore the database and correct them there",
        ) from None


def _rows(stream: BinaryIO, width: int, codec: str) -> Iterator[list[Value]]:
    for line in stream:
        if line == b"\\.\n":
            return
        row = _values(_decoded(line, codec).removesuffix("\n"))
        if width == 0 and row == [""]:
            row = []
        if len(row) != width:
            raise DamageFound(f"a row has {len(row)} values, not {width}", hint=_HINT)
        yield row
    raise DamageFound("the rows end early", hint=_HINT)


def _values(line: str) -> list[Value]:
    values: list[Value] = [*line.split("\t")]
    if "\\" in line:
        return [None if value == "\\N" else _ESCAPED.sub(_meant, value or "") for value in values]
    return values


def _meant(found: re.Match[str]) -> str:
    return _MEANS.get(found[1], found[1])
