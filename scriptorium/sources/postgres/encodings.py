"""The encoding of a dump. It is that of its database, because UTF-8 may not be able to express all of its bytes."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

_CLIENT_ENCODING = re.compile(rb"^SET client_encoding = '(\w+)';$", re.MULTILINE)
_OTHER_NAMES = {"SQL_ASCII": "utf-8", "KOI8R": "koi8-r", "KOI8U": "koi8-u", "EUC_JIS_2004": "euc_jis_2004",
                "JOHAB": "johab", "EUC_CN": "gb2312"}  # fmt: skip


def codec_of(script: bytes) -> str:
    """Python's name of the encoding that an SQL script sets; UTF-8 if it sets none, or one that Python does not
    have."""
    found = _CLIENT_ENCODING.search(script)
    name = found[1].decode() if found else "UTF8"
    name = _OTHER_NAMES.get(name, re.sub("^WIN(?=[0-9])", "cp", name))
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "utf-8"


def as_utf8(script: bytes) -> bytes:
    """SQL in UTF-8, as our sessions send it. Bytes that are invalid in its encoding stay; the server refuses them."""
    try:
        return script.decode(codec_of(script)).encode()
    except UnicodeDecodeError:
        return script


def redecoded(text: str, codec: str) -> str:
    """Text that was decoded as UTF-8 with surrogate escapes, decoded by ``codec`` instead."""
    return text.encode("utf-8", "surrogateescape").decode(codec, "surrogateescape")


def escaped(name: str) -> str:
    """A name in which invalid bytes are written as ``\\xf6``: records can contain only text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_any_bytes(connection: psycopg.Connection[Any]) -> None:
    """Make the connection accept names in any encoding. Names of roles and databases are in catalogs of the whole
    server, in the encoding of the database in which they were given. In a session of another database they may not be
    valid text; such bytes are kept unchanged."""
    from psycopg.adapt import Buffer, Loader

    class AnyBytes(Loader):
        def load(self, data: Buffer) -> str:
            return bytes(data).decode("utf-8", "surrogateescape")

    for kind in ("text", "name", "varchar", "bpchar"):
        connection.adapters.register_loader(kind, AnyBytes)
