"""The names of the members of a zip: programs encode them in four ways, and seldom say in which.

They are tried in this order: the extra field with the name in Unicode (0x7075, if its checksum is that of the written
name), the flag for UTF-8, bytes that are valid UTF-8 without the flag, and the code page of DOS. Guesses are reported.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scriptorium.errors import UnsafeArchive
from scriptorium.manifest import readable

_UTF8 = 0x800
_UNICODE_PATH = 0x7075
_UNICODE_HEAD = struct.Struct("<BL")
_FIELD = struct.Struct("<HH")
_DOS = frozenset({0, 6, 10, 11, 14})  # MS-DOS, OS/2, NTFS, MVS as some have it, VFAT


@dataclass(frozen=True, slots=True)
class Named:
    """A member and its path; ``how``: the encoding if it was guessed, else ``""``."""

    member: zipfile.ZipInfo
    path: str
    how: str

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")


def named(members: Sequence[zipfile.ZipInfo]) -> list[Named]:
    """The members with their names, without a member for the top of the zip (``./``)."""
    return [one for one in map(_named, members) if one.path]


def guesses(members: Sequence[Named]) -> Iterator[str]:
    """A line for each guessed encoding, with an example."""
    for how in sorted({one.how for one in members} - {""}):
        guessed = [one.path for one in members if one.how == how]
        count = f"{len(guessed):,} names" if len(guessed) > 1 else "1 name"
        yield f"{count} read as {how}: {readable(guessed[0])}"


def _named(member: zipfile.ZipInfo) -> Named:
    declared = bool(member.flag_bits & _UTF8)
    written = member.orig_filename.encode("utf-8" if declared else "cp437")
    path, how = _decoded(written, declared, member.extra)
    if "\0" in path:
        raise UnsafeArchive("a name in the zip contains a zero byte", on=readable(path))
    if member.create_system in _DOS:
        if "\\" in path and "/" not in path:
            path, how = path.replace("\\", "/"), how or "paths of Windows, with backslashes"
        if path[1:2] == ":" and path[:1].isalpha():
            raise UnsafeArchive("a member of the zip has the letter of a drive", on=readable(path))
    while path.startswith("./"):
        path = path[2:]
    return Named(member, path, how)


def _decoded(written: bytes, declared: bool, extra: bytes) -> tuple[str, str]:
    in_unicode = _unicode_path(written, extra)
    if in_unicode is not None:
        return in_unicode, ""
    if declared or written.isascii():
        return written.decode("utf-8"), ""
    try:
        return written.decode("utf-8"), "UTF-8, although the zip does not say so"
    except UnicodeDecodeError:
        return written.decode("cp437"), "the code page of DOS (437), which may be wrong"


def _unicode_path(written: bytes, extra: bytes) -> str | None:
    """The name in the extra field, if it belongs to the written name."""
    at = 0
    while at + _FIELD.size <= len(extra):
        kind, size = _FIELD.unpack_from(extra, at)
        at += _FIELD.size
        field = extra[at : at + size]
        at += size
        if kind != _UNICODE_PATH or len(field) < size or size < _UNICODE_HEAD.size:
            continue
        version, checksum = _UNICODE_HEAD.unpack_from(field)
        if version == 1 and checksum == zlib.crc32(written):
            try:
                return field[_UNICODE_HEAD.size :].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None
