"""What a restore put aside: known again by what it is, so that nobody says that it is back when it is not."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

Kept = Mapping[str, object]  # as JSON has it


class Whereabouts(StrEnum):
    """Where the previous data is now."""

    ASIDE = "put aside"
    BACK = "back"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Previous:
    """Where the previous data of a part is, as a look at it says. ``what``: one line for people."""

    where: Whereabouts
    what: str


@runtime_checkable
class Keeping(Protocol):
    """A part on its way back that can say whether the previous data is what it put aside."""

    def kept(self) -> Kept:
        """After ``switch``: how the previous data is known again. For the journal; no secret is in it."""
        ...

    def previous(self, kept: Kept) -> Previous:
        """Where it is now. ``kept``: what the journal recorded, empty for a restore of an earlier version. Changes
        nothing."""
        ...


def fingerprint(path: Path) -> str | None:
    """What lies there: names, kinds, sizes and times of all files, which a rename does not change; ``None`` for
    nothing. Contents are not read."""
    top = os.fsencode(path)
    try:
        status = os.lstat(top)
    except OSError:
        return None
    digest = hashlib.sha256(_line(b"", status, top))
    if stat.S_ISDIR(status.st_mode):
        for line in _lines(top):
            digest.update(line)
    return digest.hexdigest()


def _lines(top: bytes) -> Iterator[bytes]:
    waiting = [b""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(os.path.join(top, inside)) as entries:  # noqa: PTH118 -- bytes
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield b"%s\0unread %d\0" % (inside, error.errno or 0)
            continue
        for entry in found:
            relative = b"%s/%s" % (inside, entry.name) if inside else entry.name
            yield _line(relative, entry.stat(follow_symlinks=False), entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(relative)


def _line(name: bytes, status: os.stat_result, path: bytes) -> bytes:
    if stat.S_ISDIR(status.st_mode):
        return b"%s\0folder\0" % name
    if stat.S_ISLNK(status.st_mode):
        return b"%s\0link\0%s\0" % (name, os.readlink(path))  # noqa: PTH115
    return b"%s\0%o\0%d\0%d\0" % (name, stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns)
