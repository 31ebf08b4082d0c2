"""What arrived with a backup: files that are new in it are read back from the store and compared.

What the store had before was read back when it arrived. So a nightly backup reads back only what is new; ``verify``
and drills read everything.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import IO, Protocol

from scriptorium.errors import DamageFound
from scriptorium.manifest import readable
from scriptorium.members.comparison import ALTERED, MISSING
from scriptorium.members.selection import encoded
from scriptorium.model import Finding, Verification
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import Line

_TOGETHER = 256 << 20  # bytes that are read back at the same time; a larger file is read as a stream
_AT_ONCE = 500  # files, because of the length of a command


class Returned(Protocol):
    """How the tool returns files."""

    def stream(self, line: Line) -> AbstractContextManager[IO[bytes]]:
        """The contents of one large file. ``DamageFound``."""
        ...

    def files(self, lines: Sequence[Line]) -> AbstractContextManager[Mapping[str, str]]:
        """Several files in a folder of the run: the path of each on the disk, by its path in the backup; it is removed
        with the block. ``DamageFound``."""
        ...


def read_back(package: TreePackage, returned: Returned) -> Verification:
    """Compare the files that are new in this backup."""
    return read_back_lines((line for line in package.lines() if not line.known), returned)


def read_back_lines(lines: Iterable[Line], returned: Returned) -> Verification:
    """Compare these files."""
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    findings: list[Finding] = []
    for batch in _batches(lines):
        large = batch[0].entry.size > _TOGETHER
        findings += _streamed(returned, batch[0]) if large else _together(returned, batch)
    return Verification(at, not findings, tuple(map(str, findings)), time.monotonic() - began)


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        if line.entry.kind != "file":
            continue
        if line.entry.size > _TOGETHER:
            yield [line]
            continue
        if len(batch) == _AT_ONCE or size + line.entry.size > _TOGETHER:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += line.entry.size
    if batch:
        yield batch


def _streamed(returned: Returned, line: Line) -> Iterator[Finding]:
    digest = hashlib.sha256()
    try:
        with returned.stream(line) as output:
            while chunk := output.read(1 << 20):
                digest.update(chunk)
    except DamageFound as error:
        yield Finding(ALTERED, readable(line.entry.path), error.what)
        return
    yield from _compared(line, digest.hexdigest())


def _together(returned: Returned, batch: Sequence[Line]) -> Iterator[Finding]:
    try:
        with returned.files(batch) as places:
            for line in batch:
                try:
                    with open(encoded(places[line.entry.path]), "rb") as file:  # noqa: PTH123 -- bytes
                        yield from _compared(line, hashlib.file_digest(file, "sha256").hexdigest())
                except (FileNotFoundError, KeyError):
                    yield Finding(MISSING, readable(line.entry.path))
    except DamageFound as error:
        yield Finding(ALTERED, readable(batch[0].entry.path), error.what)


def _compared(line: Line, sha256: str) -> Iterator[Finding]:
    if sha256 != line.entry.sha256:
        detail = f"sha256 should be {(line.entry.sha256 or '')[:12]}…, is {sha256[:12]}…"
        yield Finding(ALTERED, readable(line.entry.path), detail)
