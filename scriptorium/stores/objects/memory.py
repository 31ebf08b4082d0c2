"""Objects in memory, for tests: a second implementation of the protocol. The settings have no such kind."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import PrivateAttr

from scriptorium.errors import DamageFound, NoSpace, NotFound, StoreUnavailable
from scriptorium.progress import Advance
from scriptorium.stores.objects.archive_store import ArchiveStore
from scriptorium.stores.objects.base import ObjectInfo, checked_key


class MemoryStore(ArchiveStore):
    """Archives in memory; ``capacity`` as in ``MemoryObjects``."""

    kind: Literal["memory"] = "memory"
    name: str = "memory"
    capacity: int | None = None
    _objects: MemoryObjects = PrivateAttr()

    def model_post_init(self, _: object) -> None:
        self._objects = MemoryObjects(self.name, self.capacity)

    @property
    def objects(self) -> MemoryObjects:
        return self._objects


@dataclass(slots=True)
class MemoryObjects:
    """``capacity``: bytes that it takes, all its objects together. ``break_down`` makes it fail from then on."""

    name: str = "memory"
    capacity: int | None = None
    _objects: dict[str, tuple[bytes, ObjectInfo]] = field(default_factory=dict)
    _broken: list[str] = field(default_factory=list)

    @property
    def folder(self) -> None:
        return None

    @property
    def takes_over(self) -> bool:
        return False

    def break_down(self, why: str = "connection refused") -> None:
        self._broken.append(why)

    def _answer(self) -> None:
        if self._broken:
            raise StoreUnavailable(f"the store does not answer: {self._broken[0]}", on=self.name)

    def prepare(self) -> None:
        self._answer()

    def put(self, key: str, file: Path, *, sha256: str | None = None, advance: Advance | None = None) -> None:
        data = file.read_bytes()
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise DamageFound("the archive changed on its way into the store", on=str(file))
        self.put_bytes(key, data)
        if advance is not None:
            advance(len(data))

    def put_bytes(self, key: str, data: bytes) -> None:
        checked_key(key)
        self._answer()
        others = sum(info.size for known, (_, info) in self._objects.items() if known != key)
        if self.capacity is not None and others + len(data) > self.capacity:
            raise NoSpace("the store is full", on=self.name)
        self._objects[key] = data, ObjectInfo(key, len(data), datetime.now(UTC), secrets.token_hex(8))

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self.read_bytes(key))

    def open_range(self, key: str, start: int, end: int) -> BinaryIO:
        return io.BytesIO(self.read_bytes(key)[start:end])

    def read_bytes(self, key: str) -> bytes:
        checked_key(key)
        self._answer()
        if key not in self._objects:
            raise NotFound("no such object", on=key, hint="another store may have it: --from STORE")
        return self._objects[key][0]

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._answer()
        yield from (info for key, (_, info) in sorted(self._objects.items()) if key.startswith(prefix))

    def may_discard(self, key: str, manifest: str) -> bool:
        return True

    def delete(self, key: str) -> None:
        checked_key(key)
        self._answer()
        self._objects.pop(key, None)

    def leftovers(self) -> Iterator[ObjectInfo]:
        self._answer()
        yield from ()

    def discard(self, leftover: ObjectInfo) -> None:
        self.delete(leftover.key)

    def location(self, key: str) -> str:
        return f"memory:{self.name}/{key}"

    def usage(self) -> tuple[int, int | None]:
        self._answer()
        used = sum(info.size for _, info in self._objects.values())
        return used, None if self.capacity is None else self.capacity - used
