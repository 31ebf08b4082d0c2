"""Packing: the staged parts into one archive, in one pass over every file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.archive.codec import codec_for
from scriptorium.archive.headers import RECORD, header, header_for, no_space, padding, user_attributes
from scriptorium.archive.ledger import LIST, MANIFEST, METADATA, OWN, SUMS, Ledger
from scriptorium.archive.outflow import Outflow, Written
from scriptorium.archive.selection import Found, claims, encoded, select, unread
from scriptorium.errors import NoSpace, UsageError
from scriptorium.manifest import dumps, readable, sealed
from scriptorium.model import ArchiveFacts, Compression, FileEntry, Manifest, Part, Staged, Tree

Advance = Callable[[int], None]


def pack(
    target: Path,
    draft: Manifest,
    staged: Sequence[Staged],
    compression: Compression,
    *,
    spool: Path,
    advance: Advance | None = None,
) -> Manifest:
    """Write the archive ``target`` and return the finished manifest.

    ``draft`` has no parts, no files and no archive facts yet. The archive is written beside its name and appears whole
    or not at all. ``spool``: a folder for the list of members while it grows. ``advance`` is told the bytes read.
    What could not be saved as it was (vanished, unreadable, changed while it was read, sockets) is among the warnings
    of the manifest, by name. Raises ``NoSpace``, ``NotFound``, ``SourceUnavailable``.
    """
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with contextlib.closing(Ledger(spool)) as ledger, _new_file(partial) as descriptor:
            with Outflow(descriptor, codec_for(compression)) as out:
                packing = _Packing(out, ledger, staged, advance or (lambda _: None))
                inner, written = packing.run(draft)
            os.fsync(descriptor)
        partial.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        if no_space(error):
            raise NoSpace("the disk became full while the archive was written", on=str(target.parent)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
    facts = ArchiveFacts(target.name, written.bytes, written.sha256, compression)
    return dataclasses.replace(inner, archive=facts)


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

    def __init__(self, out: Outflow, ledger: Ledger, staged: Sequence[Staged], advance: Advance) -> None:
        self._out = out
        self._ledger = ledger
        self._staged = staged
        self._advance = advance
        self._trees = [tree for part in staged for tree in part.trees]
        self._warnings: list[str] = []
        self._links: dict[tuple[int, int], tuple[str, int]] = {}
        self._parents = {above for tree in self._trees for above in (*_parents(tree.at), tree.at)}
        self._made: set[str] = set()
        shared = [tree.at for tree in self._trees]
        self._shared = {at for at in shared if shared.count(at) > 1}
        self._seen: set[str] = set()
        self._bytes = 0
        self._files = 0

    def run(self, draft: Manifest) -> tuple[Manifest, Written]:
        self._own(METADATA, _metadata(draft, self._staged), draft.created_at)
        parts = tuple(self._part(part) for part in self._staged)
        listed = self._ledger.listed()
        now = max(datetime.now(UTC), draft.created_at)
        if listed.member is not None:
            self._own_file(LIST, self._ledger.lines, now)
        inner = dataclasses.replace(
            draft,
            parts=parts,
            files=listed,
            archive=None,
            finished_at=now,
            warnings=(*draft.warnings, *(w for part in self._staged for w in part.warnings), *self._warnings),
        )
        self._own(MANIFEST, dumps(inner), now)
        self._own_file(SUMS, self._ledger.sums, now)
        self._out.zeros(1024)
        self._out.zeros(-self._out.length % RECORD)
        return inner, self._out.finish()

    def _part(self, part: Staged) -> Part:
        self._bytes = self._files = 0
        for tree in part.trees:
            first = True
            for found in select(tree, self._warnings.append, claims(self._trees, tree)):
                if first:
                    self._make_parents(tree)
                    first = False
                self._member(tree, found)
        return Part(
            source=part.source,
            kind=part.kind,
            path=part.path,
            bytes=self._bytes,
            files=self._files,
            started_at=part.started_at,
            finished_at=part.finished_at,
            method=part.method,
            engine_version=part.engine_version,
            tables=part.tables,
            export=part.export,
        )

    def _member(self, tree: Tree, found: Found) -> None:
        if found.path in OWN:
            raise UsageError(
                f"the name '{found.path}' is ours in every archive", on=readable(tree.root), hint="exclude this file"
            )
        if found.kind == "folder":
            self._folder(found.path, found.stat, user_attributes(found.source))
            return
        if tree.at in self._shared:
            if found.path in self._seen:
                self._warnings.append(f"{readable(found.path)}: another tree brought it already, skipped")
                return
            self._seen.add(found.path)
        if found.kind == "symlink":
            self._symlink(found)
        else:
            self._file(found)

    def _make_parents(self, tree: Tree) -> None:
        """The folders above a part, so that their modes and owners survive as well."""
        for path in _parents(tree.at):
            if path in self._made:
                continue
            facts = self._living_folder(path) or os.stat(encoded(tree.root))  # noqa: PTH116 -- bytes
            if stat.S_ISDIR(facts.st_mode):
                self._folder(path, facts, {})
            else:
                self._write_folder(path, 0o755, facts.st_mtime_ns, facts.st_uid, facts.st_gid, {})

    def _living_folder(self, path: str) -> os.stat_result | None:
        """The folder as it is on disk, where another tree of this archive covers it."""
        for tree in self._trees:
            if not tree.at or path == tree.at or path.startswith(f"{tree.at}/"):
                below = path[len(tree.at) :].lstrip("/") if tree.at else path
                try:
                    facts = os.stat(os.path.join(encoded(tree.root), encoded(below)))  # noqa: PTH116, PTH118 -- bytes
                except OSError:
                    continue
                if stat.S_ISDIR(facts.st_mode):
                    return facts
        return None

    def _folder(self, path: str, facts: os.stat_result, attributes: dict[str, bytes]) -> None:
        if path not in self._made:
            self._write_folder(
                path, stat.S_IMODE(facts.st_mode), facts.st_mtime_ns, facts.st_uid, facts.st_gid, attributes
            )

    def _write_folder(
        self, path: str, mode: int, mtime_ns: int, uid: int, gid: int, attributes: dict[str, bytes]
    ) -> None:
        if path in self._parents:
            self._made.add(path)
        self._out.write(
            header(path, "folder", size=0, mode=mode, mtime_ns=mtime_ns, uid=uid, gid=gid, xattrs=attributes)
        )
        self._ledger.add(FileEntry(path, "folder", 0, mode, mtime_ns))

    def _symlink(self, found: Found) -> None:
        assert found.target is not None
        self._out.write(header_for(found.path, "symlink", found.stat, size=0, target=found.target))
        self._record(found.path, "symlink", found.stat, target=found.target)

    def _file(self, found: Found) -> None:
        try:
            descriptor = os.open(found.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._warnings.append(unread(found.path, error))
            return
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                self._warnings.append(f"{readable(found.path)}: is no longer a file, skipped")
            elif facts.st_nlink == 1 or not self._linked(found, facts):
                self._contents(found, facts, descriptor)
        finally:
            os.close(descriptor)

    def _linked(self, found: Found, facts: os.stat_result) -> bool:
        """Write a further name of a file that is in the archive already; the first one is only remembered."""
        inode = (facts.st_dev, facts.st_ino)
        first, left = self._links.get(inode, (found.path, facts.st_nlink))
        if left > 1:
            self._links[inode] = (first, left - 1)
        else:
            self._links.pop(inode, None)
        if first == found.path:
            return False
        self._out.write(header_for(found.path, "hardlink", facts, size=0, target=first))
        self._record(found.path, "hardlink", facts, target=first)
        return True

    def _contents(self, found: Found, facts: os.stat_result, descriptor: int) -> None:
        """The file up to the size that its header announces; what is missing by then is made of zeros, and said."""
        out = self._out
        size = facts.st_size
        out.write(header_for(found.path, "file", facts, size=size, xattrs=user_attributes(descriptor)))
        digest = hashlib.sha256()
        left = size
        changed = ""
        while left:
            room = out.room()[:left]
            try:
                count = os.readv(descriptor, [room])
            except OSError as error:
                changed = f"cannot be read to its end ({error.strerror}), the rest is zeros"
                break
            if count == 0:
                changed = f"changed while it was read: it became shorter, the last {left} bytes are zeros"
                break
            digest.update(room[:count])
            out.filled(count)
            self._advance(count)
            left -= count
        if left:
            digest.update(bytes(left)) if left < 1 << 20 else _hash_zeros(digest, left)
            out.zeros(left)
        after = os.fstat(descriptor)
        if not changed and (after.st_size != size or after.st_mtime_ns != facts.st_mtime_ns):
            changed = "changed while it was read"
        if changed:
            self._warnings.append(f"{readable(found.path)}: {changed}")
        out.zeros(padding(size))
        self._bytes += size
        self._record(found.path, "file", facts, size=size, sha256=digest.hexdigest())

    def _record(
        self,
        path: str,
        kind: str,
        facts: os.stat_result,
        *,
        size: int = 0,
        sha256: str | None = None,
        target: str | None = None,
    ) -> None:
        self._files += 1
        self._ledger.add(FileEntry(path, kind, size, stat.S_IMODE(facts.st_mode), facts.st_mtime_ns, sha256, target))

    def _own(self, name: str, data: bytes, moment: datetime) -> None:
        """One of our own members, from memory."""
        self._out.write(_own_header(name, len(data), moment))
        self._out.write(data)
        self._out.zeros(padding(len(data)))
        self._ledger.sum(name, hashlib.sha256(data).hexdigest())

    def _own_file(self, name: str, source: Path, moment: datetime) -> None:
        """One of our own members, from the spool."""
        size = source.stat().st_size
        self._out.write(_own_header(name, size, moment))
        digest = hashlib.sha256()
        with source.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                self._out.write(chunk)
        self._out.zeros(padding(size))
        if name != SUMS:
            self._ledger.sum(name, digest.hexdigest())


def _hash_zeros(digest: hashlib._Hash, count: int) -> None:
    block = bytes(1 << 20)
    while count:
        digest.update(block[:count])
        count -= min(count, len(block))


def _own_header(name: str, size: int, moment: datetime) -> bytes:
    nanoseconds = int(moment.timestamp()) * 1_000_000_000
    return header(name, "file", size=size, mode=0o600, mtime_ns=nanoseconds, uid=os.getuid(), gid=os.getgid())


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
