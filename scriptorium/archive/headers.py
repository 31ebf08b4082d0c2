"""Tar headers from the status of files, in the POSIX (pax) form: exact times, raw names, owners, attributes."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping

from scriptorium.fs.access_lists import RECORDS, lists_of
from scriptorium.fs.owners import group_name, user_name
from scriptorium.manifest import decimal_seconds
from scriptorium.members.selection import decoded

BLOCK = tarfile.BLOCKSIZE
RECORD = tarfile.RECORDSIZE
XATTR = "SCHILY.xattr."
_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}


class _RawText(str):
    """Text that always encodes to the bytes it was made of.

    tarfile would otherwise announce a name that is not UTF-8 by ``hdrcharset``, which GNU tar warns of; like GNU tar,
    we write the bytes.
    """

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return str.encode(self, "utf-8", "surrogateescape")


def header(
    path: str,
    kind: str,
    *,
    size: int,
    mode: int,
    mtime_ns: int,
    uid: int,
    gid: int,
    target: str = "",
    xattrs: Mapping[str, bytes] | None = None,
    names: tuple[str, str] | None = None,
    lists: Mapping[str, str] | None = None,
) -> bytes:
    """The header blocks of one member. ``names``: of owner and group, by default those that this machine knows;
    ``lists``: access lists that are text already."""
    member = tarfile.TarInfo(path)
    member.type = _TYPES[kind]
    member.size = size
    member.mode = mode
    member.mtime = max(0, mtime_ns // 1_000_000_000)
    member.uid, member.gid = uid, gid
    member.uname, member.gname = names or (user_name(uid), group_name(gid))
    member.linkname = target
    extended: dict[str, str] = {"mtime": decimal_seconds(mtime_ns)}
    if not path.isascii():
        extended["path"] = _RawText(f"{path}/" if kind == "folder" else path)
    if target and not target.isascii():
        extended["linkpath"] = _RawText(target)
    extended |= lists_of(xattrs or {})
    extended |= {RECORDS[name]: text for name, text in (lists or {}).items()}
    for name, value in (xattrs or {}).items():
        if name in RECORDS:
            continue
        extended[_RawText(XATTR + name.replace("%", "%25").replace("=", "%3D"))] = _RawText(decoded(value))
    member.pax_headers = extended
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> int:
    """How many zero bytes follow contents of this size, up to the next block."""
    return -size % BLOCK
