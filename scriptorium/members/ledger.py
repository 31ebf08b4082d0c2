"""The list of members while an archive is being written: spooled to disk, hashed on the way, kept short in memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from scriptorium.manifest import entry_line, parse_entry_line
from scriptorium.members.selection import encoded
from scriptorium.model import FileEntry, FileList

INLINE = 10_000
METADATA = "backup_metadata.json"
LIST = "files.jsonl"
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
OWN = frozenset({METADATA, LIST, MANIFEST, SUMS})


def sums_line(path: str, sha256: str) -> bytes:
    """The line of a file for ``sha256sum -c``, escaped as that program does."""
    name = encoded(path if path != "-" else "./-")  # a bare dash would mean standard input
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"" if escaped == name else b"\\") + sha256.encode() + b"  " + escaped + b"\n"


class Ledger:
    """What has been written so far. ``spool`` is a folder for two files, which ``close`` removes."""

    def __init__(self, spool: Path) -> None:
        self.lines_path = spool / f".{LIST}"
        self.sums_path = spool / f".{SUMS}"
        self._lines: BinaryIO = self.lines_path.open("wb")
        self._sums: BinaryIO = self.sums_path.open("wb")
        self._digest = hashlib.sha256()
        self._count = 0
        self._entries: list[FileEntry] | None = []

    def add(self, entry: FileEntry) -> None:
        """A member of a part."""
        line = entry_line(entry)
        self._digest.update(line)
        self._lines.write(line)
        self._count += 1
        if entry.sha256 is not None:
            self.sum(entry.path, entry.sha256)
        if self._entries is not None:
            self._entries.append(entry)
            if self._count > INLINE:
                self._entries = None

    def sum(self, path: str, sha256: str) -> None:
        """A regular member, for ``SHA256SUMS``."""
        self._sums.write(sums_line(path, sha256))

    @property
    def lines(self) -> Path:
        self._lines.flush()
        return self.lines_path

    @property
    def sums(self) -> Path:
        self._sums.flush()
        return self.sums_path

    def entries(self) -> Iterator[FileEntry]:
        """Every member so far, read from the spool."""
        with self.lines.open("rb") as file:
            yield from map(parse_entry_line, file)

    def listed(self) -> FileList:
        """The list, inline or as a pointer to the member that holds it."""
        digest = self._digest.hexdigest()
        if self._entries is not None:
            return FileList(self._count, digest, tuple(self._entries))
        return FileList(self._count, digest, None, LIST)

    def close(self) -> None:
        for file, path in ((self._lines, self.lines_path), (self._sums, self.sums_path)):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a full disk: what it did not take is not wanted any more
                file.close()
