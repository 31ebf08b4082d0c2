"""POSIX access lists, as the kernel has them and as tar archives hold them.

In an archive a list is text, in the records ``SCHILY.acl.access`` and ``SCHILY.acl.default`` that star introduced and
GNU tar (``--acls``) and bsdtar read: ``user::rw-,user:lisa:rw-:1005,group::---,mask::rw-,other::---``. The last field
is the number of a user or group that is known by name here; if it has no name, the number is in the place of the name.

If a file has a list, the group bits of its mode are the list's *mask*: the most that anybody except the owner and the
others may do. If such a mode were unpacked without the list, the owning group would get all these rights. So in an
archive, the group bits say what the owning group may really do, and the mask is only in the list.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scriptorium.fs.owners import group_name, group_number, user_name, user_number

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
RECORDS = {ACCESS: "SCHILY.acl.access", DEFAULT: "SCHILY.acl.default"}

_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS = {"user": (_USER_OBJ, _USER), "group": (_GROUP_OBJ, _GROUP), "mask": (_MASK, 0), "other": (_OTHER, 0)}
_NOBODY = 0xFFFFFFFF
_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_NAME = re.compile(r"[A-Za-z0-9._@$-]+")
_RIGHTS = re.compile(r"[r-][w-][x-]")


@dataclass(frozen=True, slots=True)
class Entry:
    """Who (``tag``, and the number of a named user or group) may do what (three bits)."""

    tag: int
    rights: int
    number: int = _NOBODY


@dataclass(frozen=True, slots=True)
class AccessList:
    """One list. Text or bytes that are not an access list raise ``ValueError``."""

    entries: tuple[Entry, ...]

    @classmethod
    def of_kernel(cls, data: bytes) -> AccessList:
        if len(data) < _VERSION.size or _VERSION.unpack_from(data)[0] != 2 or (len(data) - 4) % _ENTRY.size:
            raise ValueError("not an access list")
        return cls(tuple(Entry(*_ENTRY.unpack_from(data, at)) for at in range(4, len(data), _ENTRY.size)))

    def for_kernel(self) -> bytes:
        ordered = sorted(self.entries, key=lambda one: (one.tag, one.number))
        return _VERSION.pack(2) + b"".join(_ENTRY.pack(one.tag, one.rights, one.number) for one in ordered)

    @classmethod
    def of_text(cls, text: str) -> AccessList:
        return cls(tuple(_entry(line) for line in re.split(r"[,\n]", text) if line.strip()))

    def text(self) -> str:
        return ",".join(map(_line, self.entries))

    @property
    def mask(self) -> int:
        """The group bits of the mode that goes with the list."""
        return self._rights(_MASK, self._rights(_GROUP_OBJ, 0))

    def narrowed(self, mode: int) -> int:
        """The mode with what the owning group may really do: its entry, as far as the mask allows."""
        return mode & ~0o070 | (self.mask & self._rights(_GROUP_OBJ, 0)) << 3

    def recorded(self, mode: int) -> int:
        """The mode for an archive: what the owning group may really do, and those rights of the others that the list
        denies to nobody. So it gives no additional access if it is set without the list."""
        return self.replaced(self.narrowed(mode))

    def widened(self, mode: int) -> int:
        """The mode as the kernel shows it with this list."""
        return mode & ~0o077 | self.mask << 3 | self._rights(_OTHER, 0)

    def replaced(self, mode: int) -> int:
        """The mode to set if the list cannot be set. Whoever an entry of the list names is then one of the others. So
        a right that an entry denies to anybody is taken from all others; if it denies it to a user, also from the
        owning group."""
        users, groups = (self._least(tag) for tag in (_USER, _GROUP))
        return mode & ~0o077 | mode & users << 3 | mode & users & groups

    def _least(self, tag: int) -> int:
        """The rights that all entries of this kind give."""
        return functools.reduce(lambda rights, one: rights & one.rights & self.mask, self._named(tag), 0o7)

    def _named(self, tag: int) -> Iterator[Entry]:
        return (one for one in self.entries if one.tag == tag)

    def _rights(self, tag: int, otherwise: int) -> int:
        return next((one.rights for one in self.entries if one.tag == tag), otherwise)

    def with_group_as_others(self) -> AccessList:
        """The same list for a file whose owning group is not the recorded one. The new group may do no more than the
        others. The others may do no more than the recorded group, because its members are among them now."""
        both = self._rights(_OTHER, 0) & self._rights(_GROUP_OBJ, 0) & self.mask
        return AccessList(
            tuple(replace(one, rights=both) if one.tag in (_GROUP_OBJ, _OTHER) else one for one in self.entries)
        )


def _line(entry: Entry) -> str:
    rights = "".join(letter if entry.rights & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
    word = next(word for word, tags in _TAGS.items() if entry.tag in tags)
    if entry.tag not in (_USER, _GROUP):
        return f"{word}::{rights}"
    name = user_name(entry.number) if entry.tag == _USER else group_name(entry.number)
    if not _NAME.fullmatch(name) or name.isdigit():
        return f"{word}:{entry.number}:{rights}"
    return f"{word}:{name}:{rights}:{entry.number}"


def _entry(line: str) -> Entry:
    word, name, rights, *more = line.strip().split(":")
    rights = rights.strip()
    if word not in _TAGS or not _RIGHTS.fullmatch(rights) or len(more) > 1:
        raise ValueError(f"not an entry of an access list: {line[:60]!r}")
    bits = sum(bit for letter, bit in zip(rights, (4, 2, 1), strict=True) if letter != "-")
    own, named = _TAGS[word]
    if not name:
        return Entry(own, bits)
    if not named:
        raise ValueError(f"not an entry of an access list: {line[:60]!r}")
    number = int(more[0] if more else name) if (more or name.isdigit()) else _NOBODY
    number = (user_number if named == _USER else group_number)("" if name.isdigit() else name, number)
    if not 0 <= number < _NOBODY:
        raise ValueError(f"nobody here is called {name!r}")
    return Entry(named, bits, number)


def lists_of(attributes: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """The lists among these attributes, as the records of an archive."""
    for name, record in RECORDS.items():
        if name in attributes:
            yield record, AccessList.of_kernel(attributes[name]).text()
