"""Members into an archive: headers, contents in one reading, and their lines in the ledger."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from scriptorium.archive.headers import header, header_for, padding
from scriptorium.archive.outflow import OutputStream
from scriptorium.fs.attributes import Attributes, attributes_of
from scriptorium.members.ledger import SUMS, Ledger
from scriptorium.members.remarks import Remark, Remarks
from scriptorium.members.selection import Found, holes, unread
from scriptorium.model import FileEntry

Advance = Callable[[int], None]

MIB = 1 << 20


class Scribe:
    """Writes one member after the other. ``bytes`` and ``files`` count what the parts brought (folders do not count);
    ``remarks`` take what could not be saved as it was."""

    def __init__(self, out: OutputStream, ledger: Ledger, advance: Advance, remarks: Remarks) -> None:
        self._out = out
        self._ledger = ledger
        self._advance = advance
        self._links: dict[tuple[int, int], tuple[str, int]] = {}
        self.remarks = remarks
        self.bytes = 0
        self.files = 0
        self.holes = 0
        self.last: FileEntry | None = None  # the file or link that was written last

    def folder(self, path: str, mode: int, mtime_ns: int, owner: tuple[int, int], attributes: Attributes) -> None:
        self.remarks.leave(path, attributes.left)
        self._out.write(
            header(
                path, "folder", size=0, mode=mode, mtime_ns=mtime_ns, uid=owner[0], gid=owner[1], xattrs=attributes.kept
            )
        )
        self._ledger.add(FileEntry(path, "folder", 0, mode, mtime_ns))

    def symlink(self, found: Found) -> None:
        assert found.target is not None
        self._out.write(header_for(found.path, "symlink", found.stat, size=0, target=found.target))
        self._record(found.path, "symlink", found.stat, mode=stat.S_IMODE(found.stat.st_mode), target=found.target)

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
        """Write a further name of a file that is in the archive already; the first one is only remembered."""
        inode = (status.st_dev, status.st_ino)
        first, left = self._links.get(inode, (found.path, status.st_nlink))
        if left > 1:
            self._links[inode] = (first, left - 1)
        else:
            self._links.pop(inode, None)
        if first == found.path:
            return False
        mode = attributes_of(descriptor).mode(status)
        self._out.write(header_for(found.path, "hardlink", status, size=0, target=first, mode=mode))
        self._record(found.path, "hardlink", status, mode=mode, target=first)
        return True

    def _contents(self, found: Found, status: os.stat_result, descriptor: int) -> None:
        """The file up to the size that its header announces; what is missing by then is made of zeros, and said."""
        out = self._out
        size = status.st_size
        attributes = attributes_of(descriptor)
        self.remarks.leave(found.path, attributes.left)
        mode = attributes.mode(status)
        out.write(header_for(found.path, "file", status, size=size, mode=mode, xattrs=attributes.kept))
        digest = hashlib.sha256()
        left = size
        changed, lost = "", False
        while left:
            room = out.room()[:left]
            try:
                count = os.readv(descriptor, [room])
            except OSError as error:
                changed = f"cannot be read to its end ({error.strerror}), the rest is zeros"
                lost = True
                break
            if count == 0:
                changed = f"changed while it was read: it became shorter, the last {left} bytes are zeros"
                break
            digest.update(room[:count])
            out.filled(count)
            self._advance(count)
            left -= count
        if left:
            _hash_zeros(digest, left)
            out.zeros(left)
        after = os.fstat(descriptor)
        if not changed and (after.st_size != size or after.st_mtime_ns != status.st_mtime_ns):
            changed = "changed while it was read"
        if changed:
            self.remarks.add(Remark(found.path, changed, lost))
        out.zeros(padding(size))
        self.bytes += size
        self.holes += holes(status)
        self._record(found.path, "file", status, mode=mode, size=size, sha256=digest.hexdigest())

    def piece(self, path: str, data: memoryview, owner: tuple[int, int]) -> None:
        """A file that lies on no disk: its contents are all there, in memory."""
        now = time.time_ns()
        self._out.write(header(path, "file", size=len(data), mode=0o600, mtime_ns=now, uid=owner[0], gid=owner[1]))
        self._out.write(data)
        self._out.zeros(padding(len(data)))
        self._advance(len(data))
        self.bytes += len(data)
        self.files += 1
        self._ledger.add(FileEntry(path, "file", len(data), 0o600, now, hashlib.sha256(data).hexdigest()))

    def _record(
        self,
        path: str,
        kind: str,
        status: os.stat_result,
        *,
        mode: int,
        size: int = 0,
        sha256: str | None = None,
        target: str | None = None,
    ) -> None:
        self.files += 1
        self.last = FileEntry(path, kind, size, mode, status.st_mtime_ns, sha256, target)
        self._ledger.add(self.last)

    def own(self, name: str, data: bytes, moment: datetime) -> None:
        """One of our own members, from memory."""
        self._out.write(_own_header(name, len(data), moment))
        self._out.write(data)
        self._out.zeros(padding(len(data)))
        self._ledger.sum(name, hashlib.sha256(data).hexdigest())

    def own_file(self, name: str, source: Path, moment: datetime) -> None:
        """One of our own members, from the spool."""
        size = source.stat().st_size
        self._out.write(_own_header(name, size, moment))
        digest = hashlib.sha256()
        with source.open("rb") as file:
            while chunk := file.read(MIB):
                digest.update(chunk)
                self._out.write(chunk)
        self._out.zeros(padding(size))
        if name != SUMS:
            self._ledger.sum(name, digest.hexdigest())


def _hash_zeros(digest: hashlib._Hash, count: int) -> None:
    block = bytes(MIB)
    while count:
        digest.update(block[:count])
        count -= min(count, len(block))


def _own_header(name: str, size: int, moment: datetime) -> bytes:
    nanoseconds = int(moment.timestamp()) * 1_000_000_000
    return header(name, "file", size=size, mode=0o600, mtime_ns=nanoseconds, uid=os.getuid(), gid=os.getgid())
