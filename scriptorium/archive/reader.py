"""Reads an archive from its first byte to its last, one member after the other, without seeking."""

from __future__ import annotations

import contextlib
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from scriptorium.archive.encryption import Keys
from scriptorium.archive.headers import BLOCK, RECORD, XATTR, padding
from scriptorium.archive.input_stream import InputStream, Within
from scriptorium.archive.sparse import layout_of
from scriptorium.archive.written import EndsEarly
from scriptorium.errors import DamageFound, NotFound
from scriptorium.fs.access_lists import RECORDS
from scriptorium.manifest import readable
from scriptorium.members.member import Member
from scriptorium.members.selection import decoded
from scriptorium.model import FileEntry

MIB = 1 << 20

_ZEROS = bytes(BLOCK)
_LONGEST_EXTENSION = 16 * MIB
_DECIMAL = re.compile(r"(-?)(\d+)(?:\.(\d*))?\Z", re.ASCII)
_LABEL, _DUMP = b"V", b"D"  # of GNU tar: the name of a volume, and a folder with a list of what was in it
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "folder",
    _DUMP: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}


_HINT = "use another copy of this backup"


class Reader:
    """The members of an archive. A context manager; ``stream`` has the position, and at the end size and hash.

    ``foreign``: another program wrote it, which need not fill the last record with zeros. In our own archives the end
    is checked too. ``keys`` open it where it is encrypted: ``KeyMissing`` at the first member if they do not.
    ``within``: the stream begins inside an archive; whoever reads it stops before its end.
    """

    def __init__(
        self, stream: BinaryIO, *, foreign: bool = False, keys: Keys | None = None, within: Within | None = None
    ) -> None:
        self.stream = InputStream(stream, foreign=foreign, keys=keys, within=within)
        self._foreign = foreign
        self._block = b""
        self._left = 0  # bytes of the current member's contents that were not read
        self._shared: dict[bytes, bytes] = {}
        self._last = ""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *details: object) -> None:
        self.stream.__exit__(*details)

    def __iter__(self) -> Iterator[Member]:
        extended: dict[bytes, bytes] = {}
        while (info := self._header()) is not None:
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                extended = extended | _records(self._extension(info))
            elif info.type == tarfile.XGLTYPE:
                self._shared |= _records(self._extension(info))
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                extended = extended | {b"path": self._extension(info).rstrip(b"\0")}
            elif info.type == tarfile.GNUTYPE_LONGLINK:
                extended = extended | {b"linkpath": self._extension(info).rstrip(b"\0")}
            elif info.type == _LABEL:
                extended = {}
            else:
                member = self._member(info, self._shared | extended)
                extended, fill = {}, padding(self._left)
                self._last = member.entry.path
                if member.entry.path or member.entry.kind != "folder":  # otherwise it is the top itself
                    yield member
                for _ in self._stored(member.entry.path, self._left):
                    pass
                self._skip(fill)
        self._end()

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; ``None`` at the two zero blocks that end an archive."""
        block = self._block = self.stream.exactly(BLOCK)
        if len(block) < BLOCK:
            raise self._damaged("the archive ends early", EndsEarly)
        if block == _ZEROS:
            second = self.stream.exactly(BLOCK)
            if any(second) or (len(second) < BLOCK and not self._foreign):
                raise self._damaged("the end of the archive is broken")
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise self._damaged(f"a header is broken ({error})") from None
        if block[257:265] == tarfile.GNU_MAGIC:  # in this form the field for the beginning of a long name holds times
            info.name = decoded(block[: tarfile.LENGTH_NAME].partition(b"\0")[0])
        return info

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        if not 0 <= info.size <= _LONGEST_EXTENSION:
            raise self._damaged("an extended header has an impossible size")
        data = self.stream.exactly(info.size)
        if len(data) < info.size:
            raise self._damaged("the archive ends early", EndsEarly)
        self._skip(padding(info.size))
        return data

    def _member(self, info: tarfile.TarInfo, extended: dict[bytes, bytes]) -> Member:
        kind = _KINDS.get(info.type, "unknown")
        named = next((key for key in (b"GNU.sparse.name", b"path") if key in extended), None)
        path = decoded(extended[named]) if named is not None else info.name
        target = decoded(extended[b"linkpath"]) if b"linkpath" in extended else info.linkname
        layout, taken = layout_of(self._block, info.type, extended, self.stream.exactly) or (None, 0)
        kind = kind if layout is None else "file"
        try:
            size = int(extended.get(b"size", info.size)) if kind in ("file", "unknown") or info.type == _DUMP else 0
            mtime_ns = _nanoseconds(decoded(extended[b"mtime"])) if b"mtime" in extended else info.mtime * 10**9
            uid, gid = int(extended.get(b"uid", info.uid)), int(extended.get(b"gid", info.gid))
        except ValueError:
            raise self._damaged(f"the header of '{readable(path)}' is broken") from None
        self._left = size - taken
        if self._left < 0 or (layout is not None and layout.stored != self._left):
            raise self._damaged(f"'{readable(path)}' has an impossible size")
        size = layout.size if layout is not None else size if kind != "folder" else 0
        to = {"symlink": target, "hardlink": _plain(target)}.get(kind)
        entry = FileEntry(_plain(path), kind, size, info.mode & 0o7777, int(mtime_ns), None, to)
        uname = decoded(extended[b"uname"]) if b"uname" in extended else info.uname
        gname = decoded(extended[b"gname"]) if b"gname" in extended else info.gname
        stored = partial(self._stored, entry.path)
        contents = stored(self._left) if layout is None else layout.spread(stored)
        return Member(entry, uid, gid, uname, gname, _attributes(extended), _lists(extended), contents)

    def _stored(self, path: str, count: int) -> Iterator[memoryview]:
        while count:
            part = self.stream.some(min(count, MIB))
            if not part:
                raise EndsEarly(f"the archive ends inside '{readable(path)}'", hint=_HINT)
            count -= len(part)
            self._left -= len(part)
            yield part

    def _skip(self, count: int) -> None:
        if len(self.stream.exactly(count)) < count:
            raise self._damaged("the archive ends early", EndsEarly)

    def _end(self) -> None:
        """After the two zero blocks, zeros fill the last record; anything else is not ours."""
        left = -self.stream.offset % RECORD
        while part := self.stream.some(MIB):
            left -= len(part)
            if (left < 0 and not self._foreign) or any(part):
                raise self._damaged("something follows the end of the archive")
        if left and not self._foreign:
            raise self._damaged("the archive ends early", EndsEarly)

    def _damaged(self, what: str, kind: type[DamageFound] = DamageFound) -> DamageFound:
        after = f", after '{readable(self._last)}'" if self._last else ""
        return kind(f"{what}, at byte {self.stream.offset} of the tar stream{after}", hint=_HINT)


def members(stream: BinaryIO, keys: Keys | None = None) -> Iterator[Member]:
    """Every member in order. Raises ``DamageFound``, with the position, at the first error."""
    with Reader(stream, keys=keys) as reader:
        yield from reader


def extract_member(stream: BinaryIO, name: str, keys: Keys | None = None) -> bytes:
    """The contents of one member, such as ``manifest.json``. Raises ``NotFound``, ``DamageFound``."""
    with contextlib.closing(members(stream, keys)) as found:  # type: ignore[type-var]
        for member in found:
            if member.entry.path == name and member.entry.kind == "file":
                return member.contents()
    raise NotFound("no such member in the archive", on=readable(name))


def _records(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: ``<length> <key>=<value>\\n``."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 12)
        length = int(data[at:space]) if space > at and data[at:space].isdigit() else 0
        record = data[space + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not length or not equals or record[-1:] != b"\n":
            raise DamageFound("an extended header of the archive is broken", hint=_HINT)
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):  # these keys repeat: a map, in its first form
            key, value = b"GNU.sparse.map", found.get(b"GNU.sparse.map", b"") + b"," + value
        found[key] = value[:-1]
        at += length
    return found


def _attributes(extended: dict[bytes, bytes]) -> dict[str, bytes]:
    return {
        decoded(key)[len(XATTR) :].replace("%3D", "=").replace("%25", "%"): value
        for key, value in extended.items()
        if key.startswith(XATTR.encode())
    }


def _lists(extended: dict[bytes, bytes]) -> dict[str, str]:
    return {name: decoded(extended[key.encode()]) for name, key in RECORDS.items() if key.encode() in extended}


def _nanoseconds(text: str) -> int:
    """Decimal seconds, exactly."""
    found = _DECIMAL.match(text)
    if found is None:
        raise ValueError(text)
    nanoseconds = int(found[2]) * 10**9 + int((found[3] or "").ljust(9, "0")[:9])
    return -nanoseconds if found[1] else nanoseconds


def _plain(path: str) -> str:
    """The path without parts that have no meaning: ``./``, ``//``, a final ``/``."""
    steps = [step for step in path.split("/") if step not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(steps)
