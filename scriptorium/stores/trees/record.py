"""The record of a backup whose contents a tool keeps: its members line by line, and where each of them was read.

A line is that of the manifest's list of members with more fields: ``tree`` (the number of the tree that brought it),
owners by number and name, attributes and access lists, and for files ``ctime`` and ``inode``. So everything but the
contents comes back from the record, whatever the tool keeps of it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scriptorium.errors import DamageFound
from scriptorium.fs.access_lists import RECORDS, AccessList
from scriptorium.fs.owners import group_name, user_name
from scriptorium.manifest import Record, decoded, encoded, entry_line, entry_of
from scriptorium.members import Member
from scriptorium.members.selection import decoded as text_of
from scriptorium.members.selection import encoded as bytes_of
from scriptorium.members.sinks import MemberHeader
from scriptorium.model import FileEntry

MEMBERS = "members.jsonl"
TREES = "trees.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A tree as it was read: its path in the backup (``at``), on the disk (``root``), and how the tool calls it
    (``within``, absolute). ``single``: it is one file."""

    at: str
    root: str
    within: str
    single: bool

    def below(self, path: str, top: str) -> str:
        """Where the member ``path`` lies, if the tree lies at ``top``."""
        if self.single:
            return top
        relative = path[len(self.at) :].lstrip("/") if self.at else path
        return f"{top.rstrip('/')}/{relative}" if relative else top

    def on_disk(self, path: str) -> str:
        return self.below(path, self.root)

    def in_tool(self, path: str) -> str:
        return self.below(path, self.within)


@dataclass(frozen=True, slots=True)
class Line:
    """A member, with what the list of the manifest does not hold of it."""

    entry: FileEntry
    tree: int | None
    uid: int
    gid: int
    uname: str
    gname: str
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    ctime_ns: int = 0
    inode: int = 0
    known: bool = False  # unchanged since an earlier backup

    @classmethod
    def of(cls, header: MemberHeader, entry: FileEntry, tree: int | None) -> Line:
        """``entry``: with the hash of the contents."""
        lists = {
            name: AccessList.of_kernel(header.attributes[name]).text() for name in RECORDS.keys() & header.attributes
        }
        xattrs = {name: value for name, value in header.attributes.items() if name not in RECORDS}
        lists |= header.lists
        uname, gname = header.names or (user_name(header.uid), group_name(header.gid))
        known = header.status if entry.kind == "file" else None
        return cls(
            entry=entry,
            tree=tree,
            uid=header.uid,
            gid=header.gid,
            uname=uname,
            gname=gname,
            xattrs=xattrs,
            lists=lists,
            ctime_ns=known.st_ctime_ns if known else 0,
            inode=known.st_ino if known else 0,
            known=header.known,
        )

    def written(self) -> bytes:
        more: dict[str, object] = {"uid": self.uid, "gid": self.gid, "user": self.uname, "group": self.gname}
        if self.tree is not None:
            more["tree"] = self.tree
        if self.xattrs:
            more["xattrs"] = {name: base64.b64encode(value).decode() for name, value in self.xattrs.items()}
        if self.lists:
            more["lists"] = dict(self.lists)
        if self.inode:
            more |= {"ctime_ns": self.ctime_ns, "inode": self.inode, "known": self.known}
        return entry_line(self.entry)[:-2] + b", " + encoded(more)[1:] + b"\n"

    def member(self, contents: Iterator[memoryview], size: int | None = None) -> Member:
        """As the store gives it back. ``size``: of the contents, where that is known and may be another one."""
        entry = self.entry
        found = FileEntry(
            entry.path, entry.kind, entry.size if size is None else size, entry.mode, entry.mtime_ns, None, entry.target
        )
        return Member(found, self.uid, self.gid, self.uname, self.gname, dict(self.xattrs), dict(self.lists), contents)


def parse_line(line: bytes) -> Line:
    """The member that a line describes. Raises ``DamageFound``."""
    record = decoded(line, "record of members")
    xattrs, lists = record.optional_record("xattrs"), record.optional_record("lists")
    try:
        values = {name: base64.b64decode(xattrs.text(name), validate=True) for name in xattrs.raw} if xattrs else {}
    except binascii.Error:
        raise record.wrong("xattrs") from None
    return Line(
        entry=entry_of(record),
        tree=record.optional_number("tree"),
        uid=record.number("uid"),
        gid=record.number("gid"),
        uname=record.text("user"),
        gname=record.text("group"),
        xattrs=values,
        lists={name: lists.text(name) for name in lists.raw} if lists else {},
        ctime_ns=record.number("ctime_ns") if "ctime_ns" in record.raw else 0,
        inode=record.number("inode") if "inode" in record.raw else 0,
        known=record.flag("known") if "known" in record.raw else False,
    )


def dump_places(places: Sequence[Place]) -> bytes:
    """The trees as a document; paths are in base64 too, because they may be no UTF-8."""
    trees = [
        {"at": _safe(one.at), "root": _safe(one.root), "within": _safe(one.within), "single": one.single}
        for one in places
    ]
    return encoded({"trees": trees}, indent=2) + b"\n"


def load_places(data: bytes) -> tuple[Place, ...]:
    """Raises ``DamageFound``."""
    listed = decoded(data, "record of trees").listed("trees")
    return tuple(_place(Record(one, "record of trees")) for one in listed)


def _place(record: Record) -> Place:
    return Place(
        at=_unsafe(record, "at"),
        root=_unsafe(record, "root"),
        within=_unsafe(record, "within"),
        single=record.flag("single"),
    )


def _safe(path: str) -> str:
    """A path as JSON can hold it: bytes that are no UTF-8, and per cent signs, are escaped as in a URL."""
    return "".join(f"%{byte:02X}" if byte in b"%" or byte > 0x7F else chr(byte) for byte in bytes_of(path))


def _unsafe(record: Record, name: str) -> str:
    first, *rest = record.text(name).split("%")
    try:
        escaped = b"".join(bytes([int(one[:2], 16)]) + bytes_of(one[2:]) for one in rest)
    except ValueError:
        raise record.wrong(name) from None
    return text_of(bytes_of(first) + escaped)


def parse_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    return map(parse_line, lines)


def tree_of(line: Line, places: Sequence[Place]) -> Place:
    """The tree that brought a member with contents. Raises ``DamageFound``."""
    if line.tree is None or line.tree >= len(places):
        raise DamageFound("the record does not say where its contents lie", on=line.entry.path)
    return places[line.tree]
