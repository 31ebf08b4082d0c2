"""Which names rclone can read on this disk and hold in a remote; the others are stored under numbers.

rclone writes some characters in another way between the disk and the remote, and cannot read every name that it made
so. A list of names for it holds one name a line.
"""

from __future__ import annotations

from scriptorium.members.selection import encoded

_QUOTE = "\u201b"  # rclone's own mark for a character that a disk or a remote cannot hold
_ENCODED = frozenset({_QUOTE, "\uff0f", "\uff0e", "\ufffd", *(chr(code) for code in range(0x2400, 0x2422))})
_LONGEST = 240  # bytes of one name; what is added while a file arrives needs the rest


def is_plain(path: str) -> bool:
    """Whether rclone takes a path as it is."""
    return all(_is_plain(part) for part in path.split("/"))


def _is_plain(name: str) -> bool:
    if not name.isprintable() or name != name.strip() or len(encoded(name)) > _LONGEST:
        return False
    return not _ENCODED & set(name)


def number_name(number: int) -> str:
    return f"renamed/{number:06}"
