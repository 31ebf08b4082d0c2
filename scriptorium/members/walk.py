"""The walk over the sources of a backup: every file is read once, and every sink gets it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import wording
from scriptorium.errors import NoSpace, SourceDamaged, UsageError
from scriptorium.fs.attributes import NONE, Attributes, attributes_of, lists_at
from scriptorium.fs.descriptors import folder_at, reached
from scriptorium.fs.system_errors import no_space
from scriptorium.manifest import readable, uncompared
from scriptorium.members.known import KnownHashes
from scriptorium.members.ledger import OWN, Ledger
from scriptorium.members.reading import MemberReader
from scriptorium.members.remarks import Remark, Remarks
from scriptorium.members.selection import Found, claims, encoded, select
from scriptorium.members.sinks import Sink, Sinks
from scriptorium.members.streams import Stream
from scriptorium.model import Check, FileEntry, Manifest, Part, Staged, Tree
from scriptorium.progress import Advance

log = logging.getLogger(__name__)

Judge = Callable[[Iterator[FileEntry]], tuple[Check, ...]]


def walk(
    draft: Manifest,
    staged: Sequence[Staged],
    sinks: Sequence[Sink],
    *,
    spool: Path,
    streams: Sequence[Stream] = (),
    judge: Judge | None = None,
    advance: Advance | None = None,
    known: KnownHashes | None = None,
) -> Manifest:
    """Read every part once into all ``sinks``; returns the manifest of what was read.

    ``draft`` has no parts, no files and no archive yet. ``spool``: a folder for the list of members while it grows.
    ``streams``: parts that are read during the walk; they come first, so that no living source waits for other files.
    ``judge`` gets every member before the manifest is made, which then has its checks; if it raises an error, the
    backup fails. ``advance`` gets the number of bytes read. The warnings of the manifest name what could not be saved
    as it was (vanished, unreadable, changed while it was read, sockets). What exists and could not be read is also in
    its ``unsaved``. ``known``: hashes of files that are not read again if no sink wants their contents. Raises
    ``NoSpace``, ``NotFound``, ``SourceUnavailable``.
    """
    try:
        with contextlib.closing(Ledger(spool)) as ledger:
            all_sinks = Sinks(sinks)
            reader = MemberReader(all_sinks, ledger, advance or (lambda _: None), Remarks(), known)
            return _Walk(reader, all_sinks, ledger, staged, streams).run(draft, judge)
    except OSError as error:
        if no_space(error):
            raise NoSpace("the disk became full while the backup was written", on=str(spool)) from error
        raise


class _Walk:
    """One backup while its sources are read."""

    def __init__(
        self, reader: MemberReader, sinks: Sinks, ledger: Ledger, staged: Sequence[Staged], streams: Sequence[Stream]
    ) -> None:
        self._sinks = sinks
        self._ledger = ledger
        self._staged = [*(stream.staged() for stream in streams), *staged]
        self._streams = {stream.folder: stream for stream in streams}
        self._reader, self._remarks = reader, reader.remarks
        self._trees = [tree for part in self._staged for tree in part.trees]
        self._above = {above for tree in self._trees for above in (*_parents(tree.at), tree.at)}
        self._made: set[str] = set()  # folders that may appear twice; their members are written already
        places = [tree.at for tree in self._trees]
        self._shared = {at for at in places if places.count(at) > 1}
        self._seen: set[str] = set()  # members of the trees that share a place

    def run(self, draft: Manifest, judge: Judge | None) -> Manifest:
        self._sinks.begin(draft, self._staged)
        parts = tuple(self._part(number) for number in range(len(self._staged)))
        listed = self._ledger.listed()
        noticed = [warning for part in self._staged for warning in part.warnings]
        noticed += [f"no rows and fingerprint of {line}" for part in parts for line in uncompared(part)]
        noticed += self._remarks.warnings()
        manifest = dataclasses.replace(
            draft,
            parts=parts,
            files=listed,
            archive=None,
            checks=judge(self._ledger.entries()) if judge else (),
            finished_at=max(datetime.now(UTC), draft.created_at),
            warnings=tuple(map(readable, (*draft.warnings, *self._remarks.losses(), *noticed))),
        )
        self._sinks.finish(manifest, self._ledger.lines if listed.member is not None else None)
        return manifest

    def _part(self, number: int) -> Part:
        part, began = self._staged[number], time.monotonic()
        bytes_before, files_before, holes_before = self._reader.bytes, self._reader.files, self._reader.holes
        remarks_before = self._remarks.count
        self._remarks.begin(part.source)
        for tree in part.trees:
            first = True
            self._reader.tree = tree
            for found in select(tree, self._remarks.add, claims(self._trees, tree)):
                if first:
                    self._reader.tree = None
                    self._make_parents(tree)
                    self._reader.tree = tree
                    first = False
                self._member(tree, found)
                self._require_seen(part, found.path)
                if found.kind == "folder" and (stream := self._streams.get(found.path)) is not None:
                    self._pieces(stream, found)
                    part = self._staged[number] = stream.staged()
        if part.pending:
            raise SourceDamaged("nothing of it was read", on=part.source, hint="please report this")
        log.info(
            "%s: read %s files, %s, in %s; %s could not be saved, %s warnings",
            part.source,
            f"{self._reader.files - files_before:,}",
            wording.size(self._reader.bytes - bytes_before),
            wording.duration(time.monotonic() - began),
            f"{self._remarks.unsaved_count(part.source):,}",
            f"{self._remarks.count - remarks_before:,}",
        )
        return Part(
            source=part.source,
            kind=part.kind,
            path=part.path,
            bytes=self._reader.bytes - bytes_before,
            files=self._reader.files - files_before,
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
            holes=self._reader.holes - holes_before,
            provenance=part.provenance,
        )

    def _require_seen(self, part: Staged, path: str) -> None:
        """The archive must hold the bytes from which the fingerprints were taken."""
        expected, packed = part.seen.get(path), self._reader.last
        if expected is not None and (packed is None or packed.path != path or packed.sha256 != expected):
            raise SourceDamaged(
                "the copy has changed since its fingerprints were taken",
                on=readable(path),
                hint="try again; if it happens again, check the memory and the disk of this machine",
            )

    def _member(self, tree: Tree, found: Found) -> None:
        if found.path in OWN:
            raise UsageError(
                f"the name '{found.path}' is reserved in every archive",
                on=readable(tree.root),
                hint="exclude this file",
            )
        if tree.at in self._shared:
            if found.path in self._seen:
                if found.kind != "folder":
                    self._remarks.add(Remark(found.path, "another tree saved it already, skipped"))
                return
            self._seen.add(found.path)
        if found.kind == "folder":
            self._folder(found.path, found.stat, _attributes(found))
        elif found.kind == "symlink":
            self._reader.symlink(found)
        else:
            self._reader.file(found)

    def _pieces(self, stream: Stream, folder: Found) -> None:
        owner = (folder.stat.st_uid, folder.stat.st_gid)
        with contextlib.closing(stream.pieces()) as pieces:
            for name, data in pieces:
                self._reader.piece(f"{folder.path}/{name}", data, owner)

    def _folder(self, path: str, status: os.stat_result, attributes: Attributes) -> None:
        if path in self._made:
            return
        if path in self._above:
            self._made.add(path)
        mode, owner = attributes.mode(status), (status.st_uid, status.st_gid)
        self._reader.folder(path, mode, status.st_mtime_ns, owner, attributes)

    def _make_parents(self, tree: Tree) -> None:
        """Write the folders above a part: as they are on disk if a tree contains them, otherwise with mode 0755."""
        for path in _parents(tree.at):
            if self._living_folder(path) or path in self._made:
                continue
            with reached(encoded(tree.root)) as (above, name):
                status = os.stat(name, dir_fd=above, follow_symlinks=False)
            self._made.add(path)
            self._reader.folder(path, 0o755, status.st_mtime_ns, (status.st_uid, status.st_gid), NONE)

    def _living_folder(self, path: str) -> bool:
        """Write the folder as a tree has it on disk; returns whether one has it."""
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
    except OSError:  # its contents' error is reported elsewhere; without its list the mode opens more
        return lists_at(f"/proc/self/fd/{folder.within}/".encode() + folder.name)
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
