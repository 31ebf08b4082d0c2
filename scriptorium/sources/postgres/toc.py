"""The table of contents of a dump for ``pg_restore``, as pg_dump writes it (layouts 1.10 to 1.16: pg_dump 8.0 to 18).

``pg_restore --list`` and the SQL that it writes do not show everything that it sends to a server: they show neither the
statements of ``--clean`` nor the border between the statement that loads rows and the rows themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scriptorium.errors import DamageFound, UnsafeArchive

CUSTOM, TAR = 1, 3  # a dump in a folder also has the number of tar
_KNOWN = range(10, 17)  # of the layouts 1.x
_LONGEST = 1 << 30  # bytes of one text
_OLDEST_ALGORITHM, _OLDEST_METHOD, _OLDEST_KIND = 15, 14, 16
_MAGIC = b"PGDMP"
_TAR_BLOCK = 512
_TABLE_OF_CONTENTS = "toc.dat"
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_LIST_OF_OBJECTS = re.compile(rb"blobs(?:_[0-9]+)?\.toc")
_PACKED = (".gz", ".lz4", ".zst")


class UnknownLayout(UnsafeArchive):
    """The dump was written by a pg_dump that is newer than this program."""


@dataclass(frozen=True, slots=True)
class Head:
    """``layout``: y of version 1.y; ``taken``: second, minute, hour, day, month - 1, year - 1900 in local time."""

    layout: int
    format: int
    taken: tuple[int, ...]
    database: bytes
    server: bytes
    program: bytes


@dataclass(frozen=True, slots=True)
class TocEntry:
    """``number``: its number in lists of entries; ``drop``: what ``--clean`` runs before it; ``copy``: the statement
    before its rows; ``file``: the file of its rows, in the directory format."""

    number: int
    schema: bytes
    what: bytes
    name: bytes
    define: bytes
    drop: bytes
    copy: bytes
    file: bytes


class TocReader:
    """The numbers and texts of a table of contents."""

    def __init__(self, stream: IO[bytes], file: Path) -> None:
        self._stream = stream
        self._file = file
        self._integer = 4
        self._offset = 8

    def head(self) -> Head:
        """``DamageFound``; ``UnknownLayout``."""
        if self._exactly(len(_MAGIC)) != _MAGIC:
            raise self._broken()
        major, layout = self._byte(), self._byte()
        if major != 1 or layout not in _KNOWN:
            raise UnknownLayout(
                f"the dump has a layout that is not known here ({major}.{layout})",
                on=str(self._file),
                hint="if you know who made it and what is in it, allow it: --trust",
            )
        self._byte()  # of the revision
        self._integer, self._offset, format = self._byte(), self._byte(), self._byte()
        if not 1 <= self._integer <= 8 or format not in (CUSTOM, TAR):
            raise self._broken()
        _ = self._byte() if layout >= _OLDEST_ALGORITHM else self._number()
        taken = tuple(self._number() for _ in range(7))
        return Head(layout, format, taken, self._text(), self._text(), self._text())

    def entries(self, head: Head) -> Iterator[TocEntry]:
        for _ in range(self._number()):
            number = self._number()
            self._number()  # whether it has rows
            self._text(), self._text()  # oids
            name, what = self._text(), self._text()
            self._number()  # section
            define, drop, copy = self._text(), self._text(), self._text()
            schema, _ = self._text(), self._text()  # and the tablespace
            if head.layout >= _OLDEST_METHOD:
                self._text()
            if head.layout >= _OLDEST_KIND:
                self._number()
            self._text(), self._text()  # owner, with oids
            while self._optional() is not None:
                pass  # numbers of others
            file = b""
            if head.format == CUSTOM:
                self._exactly(1 + self._offset)
            else:
                file = self._text()
            yield TocEntry(number, schema, what, name, define, drop, copy, file)

    def _broken(self) -> DamageFound:
        return DamageFound("the dump's head is broken", on=str(self._file), hint="use another copy of it")

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise DamageFound("the dump ends in its head", on=str(self._file), hint="use another copy of it")
        return data

    def _byte(self) -> int:
        return self._exactly(1)[0]

    def _number(self) -> int:
        """A sign, then the digits from the lowest."""
        sign = self._byte()
        value = int.from_bytes(self._exactly(self._integer), "little")
        return -value if sign else value

    def _optional(self) -> bytes | None:
        length = self._number()
        if length > _LONGEST:
            raise self._broken()
        if length < 0:
            return None
        # pg_restore ends a text at a zero byte, where pg_dump never writes one.
        text = self._exactly(length)
        if b"\0" in text:
            raise UnsafeArchive(
                "the dump has a zero byte in its table of contents", on=str(self._file), hint="dump it again"
            )
        return text

    def _text(self) -> bytes:
        return self._optional() or b""


def read_toc(dump: Path) -> list[TocEntry]:
    """The table of contents of a dump in the custom, tar or directory format. ``DamageFound``, ``UnsafeArchive``."""
    with _contents(dump) as stream:
        reader = TocReader(stream, dump)
        return list(reader.entries(reader.head()))


def toc_length(dump: Path) -> int:
    """How many bytes of a dump in one file come before its rows."""
    with _contents(dump) as stream:
        reader = TocReader(stream, dump)
        for _ in reader.entries(reader.head()):
            pass
        return stream.tell()


def read_head(dump: Path) -> Head:
    """The same of what stands at its top."""
    with _contents(dump) as stream:
        return TocReader(stream, dump).head()


def is_tar(dump: Path) -> bool:
    """Whether the file is a tar, and not a table of contents by itself."""
    with dump.open("rb") as stream:
        return stream.read(len(_MAGIC)) != _MAGIC


@contextmanager
def _contents(dump: Path) -> Iterator[IO[bytes]]:
    """The dump from the beginning of its table of contents."""
    with (dump / _TABLE_OF_CONTENTS if dump.is_dir() else dump).open("rb") as stream:
        if not dump.is_dir() and is_tar(dump):
            _require_first(stream.read(_TAR_BLOCK), dump)
        yield stream


def _require_first(block: bytes, dump: Path) -> None:
    """In a tar file the table of contents must be first: pg_dump writes it first, pg_restore uses the first one."""
    if block[:100].rstrip(b"\0") != _TABLE_OF_CONTENTS.encode():
        raise UnsafeArchive(
            "the tar file does not begin with the table of contents of a dump", on=str(dump), hint="dump it again"
        )


def require_own_files(dump: Path, entries: list[TocEntry]) -> None:
    """A dump in the directory format must name only its own files: an older pg_restore opens every named file, with the
    rights of the user who restores. ``UnsafeArchive``."""
    if not dump.is_dir():
        return
    for entry in entries:
        pattern = _LIST_OF_OBJECTS if entry.what.startswith(b"BLOBS") else _PLAIN_NAME
        if entry.file and not pattern.fullmatch(entry.file):
            raise _leads_away(dump, entry.file)
    for file in dump.iterdir():
        if file.is_symlink() or not file.is_file():
            raise _leads_away(dump, file.name.encode("utf-8", "surrogateescape"))
        if file.name.startswith("blobs"):
            listed = file.read_bytes().split() if file.suffix not in _PACKED else [b"/"]
            if away := next((word for word in listed if not _PLAIN_NAME.fullmatch(word)), None):
                raise _leads_away(dump, away)


def _leads_away(dump: Path, name: bytes) -> UnsafeArchive:
    text = name[:80].decode("utf-8", "replace")
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return UnsafeArchive(
        f"the dump names a file that is not its own: {shown}", on=str(dump), hint="use another copy of it"
    )
