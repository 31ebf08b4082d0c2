"""Reads members: their properties, their contents once, their hashes, and their lines in the ledger."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import replace

from scriptorium.fs.attributes import NONE, Attributes, attributes_of
from scriptorium.members.known import KnownHashes
from scriptorium.members.ledger import Ledger
from scriptorium.members.remarks import Remark, Remarks
from scriptorium.members.selection import Found, holes, unread
from scriptorium.members.sinks import MemberHeader, Sinks
from scriptorium.model import FileEntry, Tree
from scriptorium.progress import Advance

_ZEROS = memoryview(bytes(1 << 20))


class MemberReader:
    """Reads one member after another into the sinks. ``bytes`` and ``files`` count the members of the parts, without
    folders; ``remarks`` get what could not be saved as it was."""

    def __init__(
        self, sinks: Sinks, ledger: Ledger, advance: Advance, remarks: Remarks, known: KnownHashes | None = None
    ) -> None:
        self._sinks = sinks
        self._ledger = ledger
        self._advance = advance
        self._known = known
        self._links: dict[tuple[int, int], tuple[str, int]] = {}
        self.remarks = remarks
        self.bytes = 0
        self.files = 0
        self.holes = 0
        self.last: FileEntry | None = None  # the file or link that was read last
        self.tree: Tree | None = None  # what brings the members that come next

    def folder(self, path: str, mode: int, mtime_ns: int, owner: tuple[int, int], attributes: Attributes) -> None:
        self.remarks.leave(path, attributes.left)
        entry = FileEntry(path, "folder", 0, mode, mtime_ns)
        self._sinks.member(MemberHeader(entry, *owner, attributes.kept, self.tree))
        self._end(entry)

    def symlink(self, found: Found) -> None:
        assert found.target is not None
        self._link(found.path, "symlink", found.stat, stat.S_IMODE(found.stat.st_mode), found.target)

    def file(self, found: Found) -> None:
        try:
            descriptor = found.open()
        except OSError as error:
            self.remarks.add(unread(found.path, error))
            return
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self.remarks.add(Remark(found.path, "is no longer a file, skipped"))
            elif status.st_nlink == 1 or not self._linked(found, status, descriptor):
                self._contents(found, status, descriptor)
        finally:
            os.close(descriptor)

    def _linked(self, found: Found, status: os.stat_result, descriptor: int) -> bool:
        """Add a further name of a file that was read already; the first one is only remembered."""
        inode = (status.st_dev, status.st_ino)
        first, left = self._links.get(inode, (found.path, status.st_nlink))
        if left > 1:
            self._links[inode] = (first, left - 1)
        else:
            self._links.pop(inode, None)
        if first == found.path:
            return False
        self._link(found.path, "hardlink", status, attributes_of(descriptor).mode(status), first)
        return True

    def _link(self, path: str, kind: str, status: os.stat_result, mode: int, target: str) -> None:
        entry = FileEntry(path, kind, 0, mode, status.st_mtime_ns, None, target)
        self._sinks.member(MemberHeader(entry, status.st_uid, status.st_gid, NONE.kept, self.tree, status))
        self._record(entry)

    def _contents(self, found: Found, status: os.stat_result, descriptor: int) -> None:
        size = status.st_size
        attributes = attributes_of(descriptor)
        self.remarks.leave(found.path, attributes.left)
        mode = attributes.mode(status)
        entry = FileEntry(found.path, "file", size, mode, status.st_mtime_ns)
        sha256 = self._known.of(found.path, status) if self._known is not None else None
        owner, known = (status.st_uid, status.st_gid), sha256 is not None
        self._sinks.member(MemberHeader(entry, *owner, attributes.kept, self.tree, status, known))
        whole = True
        if sha256 is None or self._sinks.want_contents:
            sha256, whole = self._read(found, status, descriptor)
        else:
            self._advance(size)
        if self._known is not None and whole:
            self._known.add(found.path, status, sha256)
        self.bytes += size
        self.holes += holes(status)
        self._record(replace(entry, sha256=sha256))

    def _read(self, found: Found, status: os.stat_result, descriptor: int) -> tuple[str, bool]:
        """Read the file up to the size that was announced; a missing rest becomes zeros, with a remark. Returns its
        hash, and whether the file was whole and did not change."""
        size = status.st_size
        digest = hashlib.sha256()
        left = size
        changed, lost = "", False
        while left:
            space = self._sinks.space()[:left]
            try:
                count = os.readv(descriptor, [space])
            except OSError as error:
                changed = f"cannot be read to its end ({error.strerror}), the rest is zeros"
                lost = True
                break
            if count == 0:
                changed = f"changed while it was read: it became shorter, the last {left} bytes are zeros"
                break
            digest.update(space[:count])
            self._sinks.filled(count)
            self._advance(count)
            left -= count
        self._zeros(left, digest)
        after = os.fstat(descriptor)
        if not changed and (after.st_size != size or after.st_mtime_ns != status.st_mtime_ns):
            changed = "changed while it was read"
        if changed:
            self.remarks.add(Remark(found.path, changed, lost))
        return digest.hexdigest(), not changed

    def _zeros(self, left: int, digest: hashlib._Hash) -> None:
        while left:
            zeros = _ZEROS[:left]
            digest.update(zeros)
            self._sinks.write(zeros)
            left -= len(zeros)

    def piece(self, path: str, data: memoryview, owner: tuple[int, int]) -> None:
        """A file that is on no disk: all of its contents are in memory."""
        now, size = time.time_ns(), len(data)
        self._sinks.member(MemberHeader(FileEntry(path, "file", size, 0o600, now), *owner))
        self._sinks.write(data)
        self._advance(size)
        self.bytes += size
        self.files += 1
        self._end(FileEntry(path, "file", size, 0o600, now, hashlib.sha256(data).hexdigest()))

    def _record(self, entry: FileEntry) -> None:
        self.files += 1
        self.last = entry
        self._end(entry)

    def _end(self, entry: FileEntry) -> None:
        self._sinks.end(entry)
        self._ledger.add(entry)
