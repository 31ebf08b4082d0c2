"""Writes an archive: first a record of what is to be saved, then the members, at the end the manifest and the sums."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from scriptorium.archive.codec import codec_for
from scriptorium.archive.encryption import EncryptedFile
from scriptorium.archive.headers import BLOCK, RECORD, header, padding
from scriptorium.archive.index import IndexMaker
from scriptorium.archive.output_stream import OutputStream, PlainFile, Target
from scriptorium.errors import NoSpace
from scriptorium.fs.atomic import beside, new_file
from scriptorium.fs.system_errors import no_space
from scriptorium.manifest import dumps, entry_line, sealed
from scriptorium.members.ledger import LIST, MANIFEST, METADATA, SUMS
from scriptorium.members.selection import encoded
from scriptorium.members.sinks import MemberHeader
from scriptorium.model import ArchiveRecord, FileEntry, Manifest, Staged
from scriptorium.words import Compression

_MIB = 1 << 20


def sums_line(path: str, sha256: str) -> bytes:
    """The line of a file for ``sha256sum -c``, escaped as that program does."""
    name = encoded(path if path != "-" else "./-")  # a bare dash would mean standard input
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"" if escaped == name else b"\\") + sha256.encode() + b"  " + escaped + b"\n"


def listed_apart(manifest: Manifest) -> Manifest:
    """The manifest with its list of members in the archive alone."""
    return dataclasses.replace(manifest, files=dataclasses.replace(manifest.files, entries=None, member=LIST))


class _Unfinished(Exception):
    """The block ended before the archive was finished: the archive is removed."""


class ArchiveWriter:
    """A ``Sink`` that makes the archive ``target``. A context manager: the archive appears whole, when the block ends
    after ``finish``, or not at all. ``record``: what the finished archive is as a file.

    It is written beside its name. ``spool``: a folder for the sums while they grow. ``recipients``: for whom it is
    encrypted, if it is. ``apart``: the list of members is a member of its own, however short it is.
    """

    def __init__(
        self,
        target: Path,
        compression: Compression,
        spool: Path,
        *,
        recipients: Sequence[str] = (),
        apart: bool = False,
    ) -> None:
        self.target = target
        self._recipients = tuple(recipients)
        self._apart = apart
        self._compression = compression
        self._spool = spool / f".{target.name}.{SUMS}"
        self._stack = contextlib.ExitStack()
        self._index = IndexMaker()
        self.record: ArchiveRecord | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(beside(self.target))
            file = stack.enter_context(new_file(partial))
            self._sums: BinaryIO = stack.enter_context(_spooled(self._spool))
            self._out = stack.enter_context(OutputStream(self._file(file.fileno()), codec_for(self._compression)))
            self._stack = stack.pop_all()
        return self

    def _file(self, descriptor: int) -> Target:
        return EncryptedFile(descriptor, self._recipients) if self._recipients else PlainFile(descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.record is None:
            error = _Unfinished()
        try:
            self._stack.__exit__(type(error) if error else None, error, trace)
        except OSError as trouble:
            if error is None and no_space(trouble):
                raise NoSpace(
                    "the disk became full while the backup was written", on=str(self.target.parent)
                ) from trouble
            raise

    @property
    def wants_contents(self) -> bool:
        return True

    def begin(self, draft: Manifest, staged: Sequence[Staged]) -> None:
        self._own(METADATA, _metadata(draft, staged), draft.created_at)

    def member(self, member: MemberHeader) -> None:
        entry = member.entry
        self._mark(self._index.wants(self._out.length, entry.size))
        self._index.members += 1
        self._out.write(
            header(
                entry.path,
                entry.kind,
                size=entry.size,
                mode=entry.mode,
                mtime_ns=entry.mtime_ns,
                uid=member.uid,
                gid=member.gid,
                target=entry.target or "",
                xattrs=member.attributes,
                names=member.names,
                lists=member.lists,
            )
        )

    def _mark(self, here: bool) -> None:
        """Note a place at which reading may begin. In an encrypted archive there is none but the first."""
        if here and not self._recipients:
            self._index.mark(self._out.length)
            self._out.begin_anew()

    def space(self) -> memoryview:
        return self._out.buffer()

    def filled(self, count: int) -> None:
        self._out.filled(count)

    def write(self, data: memoryview) -> None:
        self._out.write(data)

    def end(self, entry: FileEntry) -> None:
        self._out.zeros(padding(entry.size))
        if entry.sha256 is not None:
            self._sums.write(sums_line(entry.path, entry.sha256))

    def finish(self, manifest: Manifest, listing: Path | None) -> None:
        now = manifest.finished_at
        if listing is not None:
            self._mark(True)
            self._own_file(LIST, listing, now)
            self._index.members += 1
            self._mark(True)
        elif self._apart:
            self._own(LIST, b"".join(map(entry_line, manifest.files.entries or ())), now)
            manifest = listed_apart(manifest)
        self._own(MANIFEST, dumps(manifest), now)
        self._sums.flush()
        self._own_file(SUMS, self._spool, now)
        self._out.zeros(2 * BLOCK)
        self._out.zeros(-self._out.length % RECORD)
        written = self._out.finish()
        encryption = " ".join(("age", *self._recipients)) if self._recipients else None
        index = self._index.made(self._out.entries)
        name = self.target.name
        self.record = ArchiveRecord(name, written.bytes, written.sha256, self._compression, encryption, index)

    def _own(self, name: str, data: bytes, time: datetime) -> None:
        """One of our own members, from memory."""
        self._out.write(_own_header(name, len(data), time))
        self._out.write(data)
        self._out.zeros(padding(len(data)))
        self._sums.write(sums_line(name, hashlib.sha256(data).hexdigest()))

    def _own_file(self, name: str, source: Path, time: datetime) -> None:
        """One of our own members, from the spool."""
        size = source.stat().st_size
        self._out.write(_own_header(name, size, time))
        digest = hashlib.sha256()
        with source.open("rb") as file:
            while chunk := file.read(_MIB):
                digest.update(chunk)
                self._out.write(chunk)
        self._out.zeros(padding(size))
        if name != SUMS:
            self._sums.write(sums_line(name, digest.hexdigest()))


@contextlib.contextmanager
def _spooled(path: Path) -> Iterator[BinaryIO]:
    file = path.open("wb")
    try:
        yield file
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk: what could not be written is not needed any more
            file.close()


def _own_header(name: str, size: int, time: datetime) -> bytes:
    nanoseconds = int(time.timestamp()) * 1_000_000_000
    return header(name, "file", size=size, mode=0o600, mtime_ns=nanoseconds, uid=os.getuid(), gid=os.getgid())


def _metadata(draft: Manifest, staged: Sequence[Staged]) -> bytes:
    """What was to be saved. It is the first member, so that a damaged archive still shows what it was."""
    return sealed(
        {
            "version": draft.version,
            "id": draft.id,
            "library": draft.library,
            "preset": draft.preset,
            "type": draft.type.value,
            "tier": draft.tier.value,
            "name": draft.name,
            "description": draft.description,
            "created_at": draft.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "host": draft.host,
            "scriptorium_version": draft.scriptorium_version,
            "tools": dict(draft.tools),
            "sources": [
                {
                    "source": part.source,
                    "kind": part.kind,
                    "path": part.path,
                    "method": part.method,
                    "trees": [
                        {
                            "root": tree.root,
                            "at": tree.at,
                            "include": list(tree.include),
                            "exclude": list(tree.exclude),
                        }
                        for tree in part.trees
                    ],
                }
                for part in staged
            ],
        }
    )
