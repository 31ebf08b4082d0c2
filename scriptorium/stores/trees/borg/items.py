"""How borg calls the members of a backup, and how some of them are named to it.

The paths that borg reads from a list may hold any byte but one: it takes a carriage return for a line break. A file
with one in its path is copied beside, under a name made of the path's hash, and is kept under that name.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from scriptorium.members.selection import encoded
from scriptorium.stores.trees.record import Line, Place

RENAMED = "renamed"
_PLAIN_ENDS = " \t\n\r\x0b\x0c"


def item_of(place: Place, line: Line) -> str:
    """The path of a member in its archive."""
    path = place.in_tool(line.entry.path).lstrip("/")
    if "\r" not in path:
        return path
    return f"{RENAMED}/{hashlib.sha256(encoded(path)).hexdigest()[:32]}"


def as_printed(item: str) -> str:
    """As borg prints a path: bytes that are not UTF-8 are question marks."""
    return item.encode("utf-8", "replace").decode()


@contextmanager
def patterns_of(items: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The words that select these items alone."""
    with tempfile.NamedTemporaryFile(prefix="scriptorium-", suffix=".patterns") as file:
        for item in items:
            file.write(_pattern(item))
        file.write(b"- re:.\n")
        file.flush()
        yield (f"--patterns-from={file.name}",)


def _pattern(item: str) -> bytes:
    try:
        raw = item.encode()
    except UnicodeEncodeError:
        raw = b""
    if raw and "\n" not in item and item == item.strip() and item == item.strip(_PLAIN_ENDS):
        return b"+ pf:" + raw + b"\n"
    return f"+ re:^{''.join(map(_escaped, item))}\\Z\n".encode()


def _escaped(letter: str) -> str:
    if (letter.isascii() and letter.isalnum()) or letter in "/_":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
