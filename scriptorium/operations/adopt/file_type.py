"""The type of a file, recognised by its content and never by its name."""

from __future__ import annotations

import tarfile
import zlib
from enum import StrEnum
from pathlib import Path

_HEAD = 4096  # bytes: the first lines of a script, the first header of a tar
_CREATED_BY = b"-- PostgreSQL database dump\n"  # pg_dump's first words; "… cluster dump" is pg_dumpall's


class Form(StrEnum):
    ZIP = "zip"
    TAR = "tar"
    DUMP = "dump"
    SQL = "sql"


def form_of(file: Path) -> Form | None:
    """The form of an archive that may be adopted, ``None`` for anything else. ``TAR`` and ``SQL`` may be compressed."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if head.startswith(b"\x1f\x8b") and _CREATED_BY in _unpacked(head):
        return Form.SQL
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Form.ZIP
    if head.startswith(b"PGDMP"):
        return Form.DUMP
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) or _is_tar(head[: tarfile.BLOCKSIZE]):
        return Form.TAR
    if _CREATED_BY in head.replace(b"\r\n", b"\n"):
        return Form.SQL
    return None


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
