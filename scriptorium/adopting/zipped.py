"""A zip that may be hostile: judged by its directory, then written, no byte more than it declares."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from scriptorium.adopting.inventory import LARGEST_METADATA, METADATA, Inventory, checked_name, require_tree
from scriptorium.archive.headers import no_space
from scriptorium.archive.placing import Placing
from scriptorium.errors import DamageFound, NoSpace, ToolMissing, UnsafeArchive
from scriptorium.manifest import readable

_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, struct.error, OverflowError)


def take_stock(file: Path) -> Inventory:
    """What the directory of the zip says. ``UnsafeArchive``, ``DamageFound``, ``ToolMissing``."""
    with _opened(file) as archive:
        members = archive.infolist()
        _require_apart(members)
        folders = {_judged(member) for member in members if member.is_dir()}
        files = [member for member in members if not member.is_dir()]
        times = Counter(_judged(member) for member in files)
        require_tree(times, folders)
        own = next((member for member in files if member.filename == METADATA), None)
        if own is not None and own.file_size > LARGEST_METADATA:
            raise DamageFound("the metadata of the archive is impossibly large", on=file.name)
        twice = sorted(path for path, count in times.items() if count > 1)
        return Inventory(
            files=len(files),
            size=sum(member.file_size for member in files),
            metadata=archive.read(own) if own is not None else None,
            left_out={},
            warnings=tuple(f"{readable(path)}: twice in the zip, the last one was taken" for path in twice[:5]),
        )


def _judged(member: zipfile.ZipInfo) -> str:
    path = checked_name(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeArchive("a member of the zip is neither file nor folder", on=readable(path))
    if member.flag_bits & _ENCRYPTED:
        raise ToolMissing("the zip is encrypted", on=readable(path), hint="unpack it and zip it again without")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ToolMissing(
            "the zip is compressed in a way that is not known here",
            on=readable(path),
            hint="unpack it and zip it again with 'deflate'",
        )
    return path


def _require_apart(members: Sequence[zipfile.ZipInfo]) -> None:
    """Members that share their bytes make a small zip unpack to any size."""
    end = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < end:
            raise UnsafeArchive("members of the zip overlap", on=readable(member.filename))
        end = member.header_offset + member.compress_size


def unpack(file: Path, folder: Path) -> None:
    """Write everything into ``folder``. Modes are kept as far as rights go, times as local ones."""
    with _opened(file) as archive, contextlib.closing(Placing([folder])) as placing:
        try:
            for member in archive.infolist():
                _write(archive, member, folder, placing)
        except OSError as error:
            if no_space(error):
                raise NoSpace("the disk became full while unpacking", on=str(folder)) from error
            raise


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, placing: Placing) -> None:
    destination = folder / checked_name(member.filename)
    if member.is_dir():
        os.close(placing.folder(destination))
        return
    with os.fdopen(placing.new_file(destination), "wb") as target, archive.open(member) as content:
        while chunk := content.read(_CHUNK):
            target.write(chunk)
        target.flush()
        if target.tell() != member.file_size:
            raise zipfile.BadZipFile(f"{readable(member.filename)} is shorter than it should be")
        os.fchmod(target.fileno(), member.external_attr >> 16 & 0o777 | 0o600)
        with contextlib.suppress(ValueError, OverflowError):  # no such day: the time of unpacking will do
            seconds = int(time.mktime((*member.date_time, 0, 0, -1)))
            os.utime(target.fileno(), (seconds, seconds))


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _BROKEN as error:
        raise DamageFound(
            f"the zip is damaged or was cut short ({error})", on=str(file), hint="use another copy of it"
        ) from error
