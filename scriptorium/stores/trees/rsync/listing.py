"""What rsync prints while it works: how far it is, and which files it wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader

from scriptorium.progress import Advance

OPTIONS = ("--info=progress2", "--no-human-readable", "--no-inc-recursive", "--out-format=%i %n")
_WRITTEN = re.compile(rb"[<>ch]f[^ ]{9} (.*)", re.DOTALL)
_PROGRESS = re.compile(rb" *(\d+) +\d+%")
_LISTED = re.compile(rb"-\S{9}[.+@]? +(\d+) (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (.*)", re.DOTALL)
_ESCAPED = re.compile(rb"\\#([0-7]{3})")
_CHUNK = 1 << 16


def written_files(output: BufferedReader, advance: Advance | None = None) -> Iterator[bytes]:
    """The paths of files that rsync writes (not those that it links to an earlier one), relative to its target.
    ``advance`` gets the number of bytes since the last call."""
    done = 0
    for line in _lines(output):
        if (found := _WRITTEN.fullmatch(line)) is not None:
            yield _unescaped(found[1])
        elif advance is not None and (at := _PROGRESS.match(line)) is not None and int(at[1]) > done:
            advance(int(at[1]) - done)
            done = int(at[1])


def listed_files(printed: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Path, size and mtime (whole seconds) of the files of a listing (``--list-only``)."""
    for line in printed.split(b"\n"):
        if (found := _LISTED.fullmatch(line)) is not None:
            at = datetime.strptime(found[2].decode(), "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC)
            yield _unescaped(found[3]), int(found[1]), int(at.timestamp())


def _lines(output: BufferedReader) -> Iterator[bytes]:
    """What lies between line ends; progress is written over itself."""
    rest = b""
    while chunk := output.read1(_CHUNK):
        *whole, rest = re.split(rb"[\r\n]", rest + chunk)
        yield from whole
    if rest:
        yield rest


def _unescaped(name: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name)
