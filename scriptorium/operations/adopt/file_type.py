"""The type of a file, recognised by its content and never by its name."""

from __future__ import annotations

import tarfile
import zlib
from enum import StrEnum
from pathlib import Path

_HEAD = 4096  # bytes: the first lines of a script, the first header of a tar
_CREATED_BY = b"-- PostgreSQL database dump\n"  # pg_dump's first words
_WHOLE_CLUSTER = b"-- PostgreSQL database cluster dump\n"  # pg_dumpall's
_TABLE_OF_CONTENTS = "toc.dat"  # of pg_dump: in a folder, or the first member of a tar
_DUMP = b"PGDMP"


class Form(StrEnum):
    ZIP = "zip"
    TAR = "tar"
    DUMP = "dump"
    SQL = "sql"


def is_folder_dump(path: Path) -> bool:
    """Whether it is a folder that ``pg_dump`` wrote: one dump, and no folder of archives."""
    contents = path / _TABLE_OF_CONTENTS
    return path.is_dir() and contents.is_file() and _head(contents).startswith(_DUMP)


def form_of(file: Path) -> Form | None:
    """The form of an archive that may be adopted, ``None`` for anything else. ``TAR`` and ``SQL`` may be compressed;
    ``DUMP`` is a file or a folder."""
    if file.is_dir():
        return Form.DUMP if is_folder_dump(file) else None
    head = _head(file)
    if head.startswith(b"\x1f\x8b") and _CREATED_BY in _unpacked(head):
        return Form.SQL
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Form.ZIP
    if _is_dump(head):
        return Form.DUMP
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) or _is_tar(head[: tarfile.BLOCKSIZE]):
        return Form.TAR
    if _CREATED_BY in head.replace(b"\r\n", b"\n"):
        return Form.SQL
    return None


def why_not(file: Path) -> tuple[str, str]:
    """What to say of a dump that cannot be adopted as it is, and what to do; nothing where it is no such dump."""
    head = _head(file)
    unpacked = _unpacked(head) if head.startswith(b"\x1f\x8b") else b""
    if _is_dump(unpacked):
        return "the dump was compressed once more", f"gunzip it first: {file.name}"
    if _WHOLE_CLUSTER in (unpacked or head).replace(b"\r\n", b"\n"):
        return "this is a dump of a whole server (pg_dumpall)", "dump the one database with pg_dump, and adopt that"
    return "", ""


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_HEAD)


def _is_dump(head: bytes) -> bool:
    """The custom format, or the tar format, whose first member is the table of contents."""
    first = head[:100].rstrip(b"\0") == _TABLE_OF_CONTENTS.encode() and _is_tar(head[: tarfile.BLOCKSIZE])
    return head.startswith(_DUMP) or (first and head[tarfile.BLOCKSIZE :].startswith(_DUMP))


def _unpacked(head: bytes) -> bytes:
    """The first lines of a file that is compressed with gzip; empty if it cannot be read."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except zlib.error:
        return b""


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
