"""The list of members while a backup is read: written to disk and hashed; little of it is in memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from scriptorium.errors import NotFound
from scriptorium.manifest import entry_line, parse_entry_line, readable
from scriptorium.members.member import Member
from scriptorium.model import FileEntry, FileList

INLINE = 10_000
METADATA = "backup_metadata.json"
LIST = "files.jsonl"
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
OWN = frozenset({METADATA, LIST, MANIFEST, SUMS})


class Ledger:
    """What has been read so far. ``spool`` is a folder for a file, which ``close`` removes."""

    def __init__(self, spool: Path) -> None:
        self.lines_path = spool / f".{LIST}"
        self._lines: BinaryIO = self.lines_path.open("wb")
        self._digest = hashlib.sha256()
        self._count = 0
        self._entries: list[FileEntry] | None = []

    def add(self, entry: FileEntry) -> None:
        """A member of a part."""
        line = entry_line(entry)
        self._digest.update(line)
        self._lines.write(line)
        self._count += 1
        if self._entries is not None:
            self._entries.append(entry)
            if self._count > INLINE:
                self._entries = None

    @property
    def lines(self) -> Path:
        self._lines.flush()
        return self.lines_path

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
        self.lines_path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk: what could not be written is not needed any more
            self._lines.close()


def listed_entries(
    members: Callable[[], AbstractContextManager[Iterable[Member]]], files: FileList
) -> Iterator[FileEntry]:
    """The members of the parts as the manifest lists them; a very long list is read from the ``members``."""
    if files.entries is not None or files.member is None:
        yield from files.entries or ()
        return
    with members() as found:
        for member in found:
            if member.entry.path == files.member and member.entry.kind == "file":
                yield from map(parse_entry_line, _split(member.chunks()))
                return
    raise NotFound("no such member in the archive", on=readable(files.member))


def _split(chunks: Iterator[memoryview]) -> Iterator[bytes]:
    """Line by line: a list of a million files is never in memory as a whole."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + bytes(chunk)).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest
