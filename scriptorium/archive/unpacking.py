"""Unpacks the members of an archive to the paths where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from scriptorium.archive.reader import Reader
from scriptorium.members.member import Member
from scriptorium.members.writing import Unpacked, write_members
from scriptorium.model import FileList
from scriptorium.progress import Advance


def unpack(
    stream: BinaryIO,
    receive: Callable[[str], Path | None],
    *,
    roots: Sequence[Path],
    expected: FileList | None = None,
    foreign: bool = False,
    advance: Advance | None = None,
) -> Unpacked:
    """``write_members`` over an archive. ``foreign``: another program wrote it. ``advance`` gets the number of bytes
    read."""
    with Reader(stream, foreign=foreign) as reader:
        return write_members(reported(reader, advance), receive, roots=roots, expected=expected, foreign=foreign)


def reported(reader: Reader, advance: Advance | None) -> Iterator[Member]:
    """The members, and after each the bytes of the archive that were read for it."""
    before = 0
    for member in reader:
        yield member
        if advance is not None and reader.stream.raw_bytes > before:
            advance(reader.stream.raw_bytes - before)
            before = reader.stream.raw_bytes
