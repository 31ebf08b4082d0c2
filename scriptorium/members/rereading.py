"""Reads unpacked files from the disk again and compares them with the list: the hashes of ``unpack`` are those of the
bytes that it wrote, not of the bytes that can be read afterwards.

Entries are read one after another, in the order in which they were written: a list of any length takes no memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.manifest import readable
from scriptorium.members.placing import Placing
from scriptorium.members.selection import encoded
from scriptorium.model import FileEntry, Finding

_MOST = 20


@dataclass(frozen=True, slots=True)
class Reread:
    """``files``: how many were compared by their hashes, ``bytes`` their contents; ``findings``: the first twenty."""

    files: int
    bytes: int
    findings: tuple[Finding, ...]


def reread(entries: Iterable[FileEntry], receive: Callable[[str], Path | None], *, roots: Sequence[Path]) -> Reread:
    """Compare what was written to the paths of ``receive`` with the list: kinds, targets of links, hashes."""
    files = size = 0
    findings: list[Finding] = []
    with contextlib.closing(Placing(roots)) as placing:
        for entry in entries:
            place = receive(entry.path)
            if place is None:
                continue
            finding = _compare(entry, *placing.parent(place))
            if finding is not None and len(findings) < _MOST:
                findings.append(finding)
            if entry.sha256 is not None:
                files += 1
                size += entry.size
    return Reread(files, size, tuple(findings))


def _compare(entry: FileEntry, folder: int, name: bytes) -> Finding | None:
    path = readable(entry.path)
    try:
        found = os.stat(name or b".", dir_fd=folder, follow_symlinks=False)
        if entry.kind == "folder":
            return None if stat.S_ISDIR(found.st_mode) else Finding("not a folder", path)
        if entry.kind == "symlink":
            same = stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=folder) == encoded(entry.target or "")
            return None if same else Finding("different link", path)
        if not stat.S_ISREG(found.st_mode):
            return Finding("not a file", path)
        if entry.sha256 is None or _hash(name, folder) == entry.sha256:
            return None
        return Finding("different content", path, "other bytes were written: is the disk sound?")
    except FileNotFoundError:
        return Finding("missing file", path)
    except OSError as error:
        return Finding("unreadable file", path, error.strerror or type(error).__name__)


def _hash(name: bytes, folder: int) -> str:
    """The hash of what is on the disk: the page cache of the file is dropped first."""
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()
