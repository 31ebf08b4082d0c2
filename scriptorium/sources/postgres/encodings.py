"""The encoding of a dump: that of its database, where UTF-8 cannot express everything in it."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

_SAID = re.compile(rb"^SET client_encoding = '(\w+)';$", re.MULTILINE)
_OTHER_NAMES = {"SQL_ASCII": "utf-8", "KOI8R": "koi8-r", "KOI8U": "koi8-u", "EUC_JIS_2004": "euc_jis_2004",
                "JOHAB": "johab", "EUC_CN": "gb2312"}  # fmt: skip


def codec_of(script: bytes) -> str:
    """Python's name of the encoding that SQL says it is in; UTF-8 where it says nothing, or Python has no such one."""
    found = _SAID.search(script)
    name = found[1].decode() if found else "UTF8"
    name = _OTHER_NAMES.get(name, re.sub("^WIN(?=[0-9])", "cp", name))
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "utf-8"


def as_utf8(script: bytes) -> bytes:
    """SQL as our sessions speak. What has no meaning in its encoding is left as it is, and refused by the server."""
    try:
        return script.decode(codec_of(script)).encode()
    except UnicodeDecodeError:
        return script


def meant(text: str, codec: str) -> str:
    """Text that was decoded as UTF-8, with whatever is none escaped, in its own encoding."""
    return text.encode("utf-8", "surrogateescape").decode(codec, "surrogateescape")


def told(name: str) -> str:
    """A name with its bytes that are no text as ``\\xf6``: records hold nothing else than text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_any_bytes(connection: psycopg.Connection[Any]) -> None:
    """Names of roles and databases are in catalogs of the whole server, in the encoding of the database in which they
    were given. In a session of another database they are bytes without a meaning; they are kept as they are."""
    from psycopg.adapt import Buffer, Loader

    class AnyBytes(Loader):
        def load(self, data: Buffer) -> str:
            return bytes(data).decode("utf-8", "surrogateescape")

    for kind in ("text", "name", "varchar", "bpchar"):
        connection.adapters.register_loader(kind, AnyBytes)
