"""A zip that may be hostile: its directory is checked, then it is unpacked, not one byte more than it declares."""

from __future__ import annotations

import contextlib
import lzma
import os
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from scriptorium.errors import DamageFound, NoSpace, ToolMissing, UnsafeArchive
from scriptorium.fs.system_errors import no_space
from scriptorium.manifest import readable
from scriptorium.members.placing import Placing
from scriptorium.operations.adopt.inventory import (
    LARGEST_METADATA,
    METADATA,
    Inventory,
    checked_name,
    leads_out,
    left_out,
    require_tree,
)
from scriptorium.operations.adopt.zip_names import Named, guesses, named

_CHUNK = 1 << 20
_FIELD = struct.Struct("<HH")
_EXTENDED_TIME = 0x5455
_TIME = struct.Struct("<Bi")
_LONGEST_TARGET = 4096
_KINDS = (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_COMPRESSIONS = {1: "shrink", 6: "implode", 9: "deflate64", 93: "zstd", 95: "xz", 98: "PPMd"}
_ENCRYPTED = 0x1
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError, struct.error, OverflowError)


def read_inventory(file: Path) -> Inventory:
    """The content of the zip, according to its directory. ``UnsafeArchive``, ``DamageFound``, ``ToolMissing``."""
    with _opened(file) as archive:
        members = named(archive.infolist())
        _require_apart(archive.infolist())
        folders = {_judged(one) for one in members if one.is_folder}
        files = [one for one in members if not one.is_folder]
        times = Counter(_judged(one) for one in files)
        require_tree(times, folders)
        links = {one.path: _target(archive, one) for one in files if _is_link(one)}
        own = next((one.member for one in reversed(files) if one.path == METADATA), None)
        if own is not None and own.file_size > LARGEST_METADATA:
            raise DamageFound("the metadata of the archive is impossibly large", on=file.name)
        twice = sorted(path for path, count in times.items() if count > 1)
        return Inventory(
            files=len(files),
            size=sum(one.member.file_size for one in files),
            metadata=archive.read(own) if own is not None else None,
            left_out={path: to for path, to in links.items() if leads_out(path, to)},
            warnings=(
                *guesses(members),
                *(f"{readable(path)}: twice in the zip, the last one is used" for path in twice[:5]),
            ),
        )


def _judged(one: Named) -> str:
    path, member = checked_name(one.path), one.member
    if stat.S_IFMT(member.external_attr >> 16) not in _KINDS:
        raise UnsafeArchive("a member of the zip is neither file nor folder", on=readable(path))
    if member.flag_bits & _ENCRYPTED:
        raise ToolMissing("the zip is encrypted", on=readable(path), hint="unpack it and zip it again without")
    if member.compress_type not in _KNOWN:
        name = _COMPRESSIONS.get(member.compress_type, f"method {member.compress_type}")
        raise ToolMissing(
            f"the compression of the zip is not supported ({name})",
            on=readable(path),
            hint="unpack it and zip it again with 'deflate'",
        )
    return path


def _is_link(one: Named) -> bool:
    return stat.S_ISLNK(one.member.external_attr >> 16)


def _target(archive: zipfile.ZipFile, one: Named) -> str:
    """The target of a symlink, which is its content."""
    if one.member.file_size > _LONGEST_TARGET:
        raise UnsafeArchive("a link in the zip has an impossible target", on=readable(one.path))
    target = os.fsdecode(archive.read(one.member))
    if not target or "\0" in target:
        raise UnsafeArchive("a link in the zip has an impossible target", on=readable(one.path))
    return target


def _require_apart(members: Sequence[zipfile.ZipInfo]) -> None:
    """``UnsafeArchive`` if members share their bytes: with this trick a small zip can unpack to any size."""
    end = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise UnsafeArchive("members of the zip overlap", on=readable(member.filename))
        end = member.header_offset + member.compress_size


def unpack(file: Path, folder: Path, inventory: Inventory) -> tuple[str, ...]:
    """Write everything that the inventory does not leave out into ``folder``; returns warnings. The permissions of the
    mode are kept; times are read as local times."""
    with _opened(file) as archive, contextlib.closing(Placing([folder])) as placing:
        try:
            for one in named(archive.infolist()):
                if checked_name(one.path) not in inventory.left_out:
                    _write(archive, one, folder, placing)
        except OSError as error:
            if no_space(error):
                raise NoSpace("the disk became full while unpacking", on=str(folder)) from error
            raise
    return left_out(inventory)


def _write(archive: zipfile.ZipFile, one: Named, folder: Path, placing: Placing) -> None:
    destination, member = folder / checked_name(one.path), one.member
    if one.is_folder:
        os.close(placing.folder(destination))
        return
    if _is_link(one):
        placing.symlink(destination, _target(archive, one))
        return
    with os.fdopen(placing.new_file(destination), "wb") as target, archive.open(member) as content:
        while chunk := content.read(_CHUNK):
            target.write(chunk)
        target.flush()
        if target.tell() != member.file_size:
            raise zipfile.BadZipFile(f"{readable(member.filename)} is shorter than it should be")
        os.fchmod(target.fileno(), member.external_attr >> 16 & 0o777 | 0o600)
        with contextlib.suppress(ValueError, OverflowError):  # no valid date: the time of unpacking stays
            seconds = _modified(member.extra)
            if seconds is None:
                seconds = int(time.mktime((*member.date_time, 0, 0, -1)))
            os.utime(target.fileno(), (seconds, seconds))


def _modified(extra: bytes) -> int | None:
    """The time in the extra field of Info-ZIP, in seconds since 1970 (UTC); the zip's own time is a local one."""
    at = 0
    while at + _FIELD.size <= len(extra):
        kind, size = _FIELD.unpack_from(extra, at)
        at += _FIELD.size
        if kind == _EXTENDED_TIME and size >= _TIME.size and at + _TIME.size <= len(extra):
            flags, seconds = _TIME.unpack_from(extra, at)
            return int(seconds) if flags & 1 else None
        at += size
    return None


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _BROKEN as error:
        raise DamageFound(
            f"the zip is damaged or was cut short ({error})", on=str(file), hint="use another copy of it"
        ) from error
