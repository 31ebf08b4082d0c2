"""The members that are wanted of an archive with an index: only the ranges that hold them are read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO

from scriptorium.archive.index import Run, runs
from scriptorium.archive.input_stream import Within
from scriptorium.archive.reader import Reader
from scriptorium.archive.written import MIB
from scriptorium.errors import DamageFound
from scriptorium.manifest import parse_entry_line
from scriptorium.members.member import Member
from scriptorium.model import ArchiveRecord, FileEntry, FileList, Manifest
from scriptorium.progress import Advance

_ENOUGH = 16  # a restore that skips less than this part of an archive reads it whole
_HINT = "use another copy of this backup"

OpenRange = Callable[[int, int], BinaryIO]
Wanted = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Choice:
    """An archive of which some members are read. ``open_range``: its bytes from one position to before another."""

    open_range: OpenRange
    record: ArchiveRecord
    files: FileList
    wanted: Wanted
    advance: Advance | None

    def members(self, chosen: Iterable[Run], listing: IO[bytes] | None) -> Iterator[Member]:
        for run in chosen:
            yield from self._wanted_in(run)
        if listing is not None and self.files.member is not None:
            yield _list_member(self.files.member, listing)

    def _wanted_in(self, run: Run) -> Iterator[Member]:
        for member in self._in(run):
            if self.wanted(member.entry.path):
                yield member

    def _in(self, run: Run) -> Iterator[Member]:
        """The members of a range up to the last one that is wanted."""
        within = Within(run.start, self.record.compression)
        with (
            contextlib.closing(self.open_range(run.start.at, run.end)) as stream,
            Reader(stream, within=within) as reader,
        ):
            before = run.start.at
            for number, member in enumerate(reader, run.start.member):
                yield member
                if self.advance is not None and reader.stream.raw_bytes > before:
                    self.advance(reader.stream.raw_bytes - before)
                    before = reader.stream.raw_bytes
                if number == run.last:
                    return

    def spool_list(self, spool: IO[bytes]) -> None:
        """Copy the list of members that is a member itself. ``DamageFound`` if it is another one."""
        digest = hashlib.sha256()
        (run,) = runs(self.record, [self.files.count])
        for member in self._in(run):
            if member.entry.path == self.files.member:
                for chunk in member.chunks():
                    digest.update(chunk)
                    spool.write(chunk)
        if digest.hexdigest() != self.files.sha256:
            raise DamageFound("the list of files is not what was saved", on=self.record.name, hint=_HINT)
        spool.seek(0)


@contextmanager
def chosen_members(
    open_range: OpenRange, manifest: Manifest, wanted: Wanted, *, advance: Advance | None
) -> Iterator[Iterator[Member] | None]:
    """The wanted members, and behind them the list of members where the manifest does not hold it; ``None`` where the
    archive should be read whole: it has no index, or most of it is wanted."""
    record = manifest.archive
    if record is None or not record.index or record.encryption is not None:
        yield None
        return
    choice = Choice(open_range, record, manifest.files, wanted, advance)
    with contextlib.ExitStack() as stack:
        listing: IO[bytes] | None = None
        entries: Iterable[FileEntry] = manifest.files.entries or ()
        if manifest.files.entries is None:
            listing = stack.enter_context(tempfile.TemporaryFile())
            choice.spool_list(listing)
            entries = map(parse_entry_line, listing)
        chosen = runs(record, array("Q", (number for number, one in enumerate(entries) if wanted(one.path))))
        if sum(run.end - run.start.at for run in chosen) > record.bytes - record.bytes // _ENOUGH:
            yield None
            return
        found = choice.members(chosen, listing)
        with contextlib.closing(found):  # type: ignore[type-var]
            yield found


def _list_member(name: str, listing: IO[bytes]) -> Member:
    size = listing.seek(0, os.SEEK_END)
    listing.seek(0)
    chunks = (memoryview(chunk) for chunk in iter(lambda: listing.read(MIB), b""))
    return Member(FileEntry(name, "file", size, 0o600, 0), os.getuid(), os.getgid(), "", "", {}, {}, chunks)
