"""What arrived with a backup: files that are new in it are read back from the repository and compared.

What the repository had before was read back when it arrived. So a nightly backup reads back only what is new;
``verify`` and drills read everything.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.errors import DamageFound
from scriptorium.fs.removal import remove_tree
from scriptorium.manifest import readable
from scriptorium.members.comparison import ALTERED, MISSING
from scriptorium.members.selection import encoded
from scriptorium.model import Finding, Verification
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import Line, tree_of
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.stores.trees.restic.targets import escaped

_TOGETHER = 256 << 20  # bytes that are restored at the same time; a larger file is read as a stream
_AT_ONCE = 500  # files, because of the length of a command


def read_back(program: Restic, package: TreePackage, words: Sequence[str], folder: Path) -> Verification:
    """Compare the files that are new in this backup. ``words`` name the snapshot; ``folder``: for what is restored."""
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    findings: list[Finding] = []
    for batch in _batches(package):
        if batch[0].entry.size > _TOGETHER:
            findings += _streamed(program, package, words, batch[0])
        else:
            findings += _restored(program, package, words, batch, folder)
    return Verification(at, not findings, tuple(map(str, findings)), time.monotonic() - began)


def _batches(package: TreePackage) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in package.lines():
        if line.entry.kind != "file" or line.known:
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


def _streamed(program: Restic, package: TreePackage, words: Sequence[str], line: Line) -> Iterator[Finding]:
    digest = hashlib.sha256()
    try:
        with program.stream("dump", *words, tree_of(line, package.places).in_tool(line.entry.path)) as output:
            while chunk := output.read(1 << 20):
                digest.update(chunk)
    except DamageFound as error:
        yield Finding(ALTERED, readable(line.entry.path), error.what)
        return
    yield from _compared(line, digest.hexdigest())


def _restored(
    program: Restic, package: TreePackage, words: Sequence[str], batch: Sequence[Line], folder: Path
) -> Iterator[Finding]:
    paths = [tree_of(line, package.places).in_tool(line.entry.path) for line in batch]
    target = folder / "back"
    target.mkdir(mode=0o700)
    try:
        included = [f"--include={os.fsdecode(escaped(encoded(path)))}" for path in paths]
        try:
            program.run("restore", *reversed(words), f"--target={target}", *included, within=None)
        except DamageFound as error:
            yield Finding(ALTERED, readable(batch[0].entry.path), error.what)
            return
        for line, path in zip(batch, paths, strict=True):
            try:
                with open(encoded(str(target)) + encoded(path), "rb") as file:  # noqa: PTH123 -- bytes
                    yield from _compared(line, hashlib.file_digest(file, "sha256").hexdigest())
            except FileNotFoundError:
                yield Finding(MISSING, readable(line.entry.path))
    finally:
        remove_tree(target)


def _compared(line: Line, sha256: str) -> Iterator[Finding]:
    if sha256 != line.entry.sha256:
        detail = f"sha256 should be {(line.entry.sha256 or '')[:12]}…, is {sha256[:12]}…"
        yield Finding(ALTERED, readable(line.entry.path), detail)
