"""Packing: the staged parts into one archive, in one pass over every file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.archive.codec import codec_for
from scriptorium.archive.headers import BLOCK, RECORD
from scriptorium.archive.outflow import OutputStream, Written
from scriptorium.archive.scribe import Advance, Scribe
from scriptorium.errors import NoSpace, SourceDamaged, UsageError
from scriptorium.fs.attributes import NONE, Attributes, attributes_of
from scriptorium.fs.descriptors import folder_at, reached
from scriptorium.fs.system_errors import no_space
from scriptorium.manifest import dumps, readable, sealed, uncompared
from scriptorium.members.ledger import LIST, MANIFEST, METADATA, OWN, SUMS, Ledger
from scriptorium.members.remarks import Remark, Remarks
from scriptorium.members.selection import Found, claims, encoded, select
from scriptorium.members.streams import Stream
from scriptorium.model import ArchiveRecord, Check, Compression, FileEntry, Manifest, Part, Staged, Tree

Judge = Callable[[Iterator[FileEntry]], tuple[Check, ...]]


def pack(
    target: Path,
    draft: Manifest,
    staged: Sequence[Staged],
    compression: Compression,
    *,
    spool: Path,
    streams: Sequence[Stream] = (),
    judge: Judge | None = None,
    advance: Advance | None = None,
) -> Manifest:
    """Write the archive ``target`` and return the finished manifest.

    ``draft`` has no parts, no files and no archive facts yet. The archive is written beside its name and appears whole
    or not at all. ``spool``: a folder for the list of members while it grows. ``streams``: parts that are read
    meanwhile; they come first, so that nothing living waits for what lies on the disk. ``judge`` is shown every member
    before the manifest is written, and its checks stand in it; what it raises gives the archive up. ``advance`` is told
    the bytes read. What could not be saved as it was (vanished, unreadable, changed while it was read, sockets) is
    among the warnings of the manifest, by name; what exists and could not be read is also among its ``unsaved``.
    Raises ``NoSpace``, ``NotFound``, ``SourceUnavailable``.
    """
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with contextlib.closing(Ledger(spool)) as ledger, _new_file(partial) as descriptor:
            with OutputStream(descriptor, codec_for(compression)) as out:
                packing = _Packing(out, ledger, staged, streams, advance or (lambda _: None))
                inner, written = packing.run(draft, judge)
            os.fsync(descriptor)
        partial.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        if no_space(error):
            raise NoSpace("the disk became full while the archive was written", on=str(target.parent)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
    status = ArchiveRecord(target.name, written.bytes, written.sha256, compression)
    return dataclasses.replace(inner, archive=status)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Packing:
    """One archive on its way out."""

    def __init__(
        self, out: OutputStream, ledger: Ledger, staged: Sequence[Staged], streams: Sequence[Stream], advance: Advance
    ) -> None:
        self._out = out
        self._ledger = ledger
        self._staged = [*(stream.staged() for stream in streams), *staged]
        self._streams = {stream.folder: stream for stream in streams}
        self._remarks = Remarks()
        self._scribe = Scribe(out, ledger, advance, self._remarks)
        self._trees = [tree for part in self._staged for tree in part.trees]
        self._above = {above for tree in self._trees for above in (*_parents(tree.at), tree.at)}
        self._made: set[str] = set()  # folders that may come up twice, and their members are written already
        places = [tree.at for tree in self._trees]
        self._shared = {at for at in places if places.count(at) > 1}
        self._seen: set[str] = set()  # members of the trees that share a place

    def run(self, draft: Manifest, judge: Judge | None) -> tuple[Manifest, Written]:
        self._scribe.own(METADATA, _metadata(draft, self._staged), draft.created_at)
        parts = tuple(self._part(number) for number in range(len(self._staged)))
        listed = self._ledger.listed()
        now = max(datetime.now(UTC), draft.created_at)
        if listed.member is not None:
            self._scribe.own_file(LIST, self._ledger.lines, now)
        noticed = [warning for part in self._staged for warning in part.warnings]
        noticed += [f"no rows and fingerprint of {line}" for part in parts for line in uncompared(part)]
        noticed += self._remarks.warnings()
        inner = dataclasses.replace(
            draft,
            parts=parts,
            files=listed,
            archive=None,
            checks=judge(self._ledger.entries()) if judge else (),
            finished_at=now,
            warnings=tuple(map(readable, (*draft.warnings, *self._remarks.losses(), *noticed))),
        )
        self._scribe.own(MANIFEST, dumps(inner), now)
        self._scribe.own_file(SUMS, self._ledger.sums, now)
        self._out.zeros(2 * BLOCK)
        self._out.zeros(-self._out.length % RECORD)
        return inner, self._out.finish()

    def _part(self, number: int) -> Part:
        part = self._staged[number]
        bytes_before, files_before, holes_before = self._scribe.bytes, self._scribe.files, self._scribe.holes
        self._remarks.begin(part.source)
        for tree in part.trees:
            first = True
            for found in select(tree, self._remarks.add, claims(self._trees, tree)):
                if first:
                    self._make_parents(tree)
                    first = False
                self._member(tree, found)
                self._require_seen(part, found.path)
                if found.kind == "folder" and (stream := self._streams.get(found.path)) is not None:
                    self._pieces(stream, found)
                    part = self._staged[number] = stream.staged()
        if part.pending:
            raise SourceDamaged("nothing of it was read", on=part.source, hint="please report this")
        return Part(
            source=part.source,
            kind=part.kind,
            path=part.path,
            bytes=self._scribe.bytes - bytes_before,
            files=self._scribe.files - files_before,
            started_at=part.started_at,
            finished_at=part.finished_at,
            method=part.method,
            engine_version=part.engine_version,
            tables=part.tables,
            export=part.export,
            export_lacks=part.export_lacks,
            missing_fingerprints=part.missing_fingerprints,
            unsaved=self._remarks.unsaved(part.source),
            unsaved_count=self._remarks.unsaved_count(part.source),
            holes=self._scribe.holes - holes_before,
            provenance=part.provenance,
        )

    def _require_seen(self, part: Staged, path: str) -> None:
        """What facts were taken from is what lies in the archive, byte for byte."""
        expected, packed = part.seen.get(path), self._scribe.last
        if expected is not None and (packed is None or packed.path != path or packed.sha256 != expected):
            raise SourceDamaged(
                "the copy has changed since its facts were taken",
                on=readable(path),
                hint="try again; if it happens again, check the memory and the disk of this machine",
            )

    def _member(self, tree: Tree, found: Found) -> None:
        if found.path in OWN:
            raise UsageError(
                f"the name '{found.path}' is ours in every archive", on=readable(tree.root), hint="exclude this file"
            )
        if tree.at in self._shared:
            if found.path in self._seen:
                if found.kind != "folder":
                    self._remarks.add(Remark(found.path, "another tree brought it already, skipped"))
                return
            self._seen.add(found.path)
        if found.kind == "folder":
            self._folder(found.path, found.stat, _attributes(found))
        elif found.kind == "symlink":
            self._scribe.symlink(found)
        else:
            self._scribe.file(found)

    def _pieces(self, stream: Stream, folder: Found) -> None:
        owner = (folder.stat.st_uid, folder.stat.st_gid)
        with contextlib.closing(stream.pieces()) as pieces:
            for name, data in pieces:
                self._scribe.piece(f"{folder.path}/{name}", data, owner)

    def _folder(self, path: str, status: os.stat_result, attributes: Attributes) -> None:
        if path in self._made:
            return
        if path in self._above:
            self._made.add(path)
        mode, owner = attributes.mode(status), (status.st_uid, status.st_gid)
        self._scribe.folder(path, mode, status.st_mtime_ns, owner, attributes)

    def _make_parents(self, tree: Tree) -> None:
        """The folders above a part: as they are on disk where a tree covers them, else open to be entered."""
        for path in _parents(tree.at):
            if self._living_folder(path) or path in self._made:
                continue
            with reached(encoded(tree.root)) as (above, name):
                status = os.stat(name, dir_fd=above, follow_symlinks=False)
            self._made.add(path)
            self._scribe.folder(path, 0o755, status.st_mtime_ns, (status.st_uid, status.st_gid), NONE)

    def _living_folder(self, path: str) -> bool:
        """Write the folder as a tree has it on disk; whether one does."""
        for tree in self._trees:
            if not tree.at or path == tree.at or path.startswith(f"{tree.at}/"):
                below = path[len(tree.at) :].lstrip("/") if tree.at else path
                living = os.path.join(encoded(tree.root), encoded(below))  # noqa: PTH118 -- bytes
                with contextlib.suppress(OSError), folder_at(living) as descriptor:
                    self._folder(path, os.fstat(descriptor), attributes_of(descriptor))
                    return True
        return False


def _attributes(folder: Found) -> Attributes:
    try:
        descriptor = folder.open()
    except OSError:  # whether it could be read is said where its contents are
        return NONE
    try:
        return attributes_of(descriptor)
    finally:
        os.close(descriptor)


def _parents(path: str) -> Iterator[str]:
    """The folders above a path, from the top."""
    cut = path.find("/")
    while cut != -1:
        yield path[:cut]
        cut = path.find("/", cut + 1)


def _metadata(draft: Manifest, staged: Sequence[Staged]) -> bytes:
    """What was to be saved; stands first in the archive, so that a broken one still says what it was."""
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
