"""The protocol of a place that keeps bytes under keys (``local``, ``s3``, ``memory``): what archives are stored in.

Keys are relative paths with ``/`` (``<library>/<archive name>``). An object is there whole or not at all: ``put``
writes beside and renames, or uses the service's own atomic put. ``tests/contracts/test_object_stores.py`` runs one
suite on every member.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from scriptorium.errors import UsageError
from scriptorium.progress import Advance

_LONGEST_NAME = 200  # bytes: a store may append letters for its temporary files


def checked_key(key: str) -> tuple[str, ...]:
    """The one or two names of an object's key.

    ``UsageError`` for keys that no store accepts: names that are empty, hidden (those are ours), too long, or not text;
    keys that lead out of the store or deeper than a library's folder.
    """
    names = tuple(key.split("/"))
    if len(names) > 2 or any(not _is_name(name) for name in names):
        raise UsageError("not the key of an object", on=repr(key))
    return names


def _is_name(name: str) -> bool:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < length <= _LONGEST_NAME and not name.startswith(".") and "\0" not in name


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: its key, its size in bytes, when it was last written (UTC), and a token that changes with it."""

    key: str
    size: int
    modified: datetime
    etag: str


class ObjectStore(Protocol):
    """A place for objects. Every method raises ``StoreUnavailable`` when the place does not answer."""

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that holds the objects, if there is one."""
        ...

    @property
    def takes_over(self) -> bool:
        """Whether ``put`` takes a file of the same filesystem over as it is, so that its bytes are there once."""
        ...

    def prepare(self) -> None:
        """Make the place ready (create it, least rights). Doing it again changes nothing."""
        ...

    def put(self, key: str, file: Path, *, sha256: str | None = None, advance: Advance | None = None) -> None:
        """Store a file under a key, replacing what was there.

        ``sha256``, where given, is checked on bytes that are moved. A store may take the file over as it is (a link),
        so the caller must not write into it afterwards. ``advance`` gets the number of bytes that have arrived, in the
        end as many as the file has. Raises ``NoSpace``, ``DamageFound``.
        """
        ...

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store a small object, replacing what was there."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A stream of the object's bytes from the start; the caller closes it. ``NotFound`` when it is not there."""
        ...

    def open_range(self, key: str, start: int, end: int) -> BinaryIO:
        """The same from the byte ``start`` on; nothing from ``end`` on is needed, and it need not be there. An object
        that is shorter has fewer bytes, or none."""
        ...

    def read_bytes(self, key: str) -> bytes:
        """A small object whole."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, in the order of keys; unfinished ones are not there."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        ...

    def may_discard(self, key: str, manifest: str) -> bool:
        """Whether an object that has a name of ours, and no manifest, is really ours and was left by us: as far as the
        place knows who put it, and who removed its manifest."""
        ...

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Unfinished writes, which ``discard`` may remove after a grace time."""
        ...

    def discard(self, leftover: ObjectInfo) -> None: ...

    def location(self, key: str) -> str:
        """Where a person finds the object: a path or a URL without secrets."""
        ...

    def usage(self) -> tuple[int, int | None]:
        """(bytes used by our objects, bytes free or ``None`` where it cannot be known)."""
        ...
