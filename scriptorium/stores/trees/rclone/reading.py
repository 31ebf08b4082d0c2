"""A backup on its way back from a remote: files in batches that fit on this disk, everything else from the record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import readable
from scriptorium.members import Member
from scriptorium.members.selection import encoded
from scriptorium.model import Manifest
from scriptorium.progress import Advance
from scriptorium.stores.trees.rclone.files import Stored
from scriptorium.stores.trees.rclone.layout import MANIFEST, NAMES, load_names
from scriptorium.stores.trees.rclone.program import Rclone
from scriptorium.stores.trees.reading import Contents, Recorded, Request, Wanted, counted, read_file
from scriptorium.stores.trees.record import MEMBERS, TREES, Line, Place, load_places, parse_lines

_MIB = 1 << 20
_TOGETHER = 64 * _MIB  # bytes that are on this disk at the same time; a larger file is read as a stream
_AT_ONCE = 1000
_RECORD = (MANIFEST, TREES, NAMES, MEMBERS)
_HINT = "use another copy of this backup"


@contextmanager
def recorded(program: Rclone, key: str, location: str, wanted: Wanted | None = None) -> Iterator[Recorded]:
    """The record of a backup. ``wanted``: of the contents nothing else is read. ``NotFound``, ``DamageFound``."""
    library, _, label = key.partition("/")
    with Stored(program, library, label, {}).fetched(_RECORD) as folder:
        there = {name for name in _RECORD if (folder / name).exists()}
        if MANIFEST not in there:
            raise NotFound("there is no such backup", on=location)
        if missing := set(_RECORD) - there:
            raise DamageFound(f"the record lacks {', '.join(sorted(missing))}", on=location, hint=_HINT)
        stored = Stored(program, library, label, load_names((folder / NAMES).read_bytes()))
        places = load_places((folder / TREES).read_bytes())
        with (folder / MEMBERS).open("rb") as lines, contextlib.closing(_Files(stored, lines, wanted)) as files:
            yield Recorded((folder / MANIFEST).read_bytes(), places, lines, files.of_tree)


def stored_of(program: Rclone, key: str) -> Stored:
    """The folder of a backup with the names of its files. ``NotFound``, ``DamageFound``."""
    library, _, label = key.partition("/")
    with Stored(program, library, label, {}).fetched((NAMES,)) as folder:
        if not (folder / NAMES).exists():
            raise DamageFound(f"the record lacks {NAMES}", on=key, hint=_HINT)
        return Stored(program, library, label, load_names((folder / NAMES).read_bytes()))


class _Files:
    """The wanted files of a backup in the order of the record, whatever tree they are of."""

    def __init__(self, stored: Stored, lines: IO[bytes], wanted: Wanted | None) -> None:
        self._stored, self._lines, self._wanted = stored, lines, wanted
        self._batches: Iterator[list[Line]] | None = None
        self._fetched = contextlib.ExitStack()
        self._folder: Path | None = None
        self._there: set[str] = set()

    def of_tree(self, manifest: Manifest, place: Place, request: Request) -> Contents:
        return _Tree(self)

    def member(self, line: Line, advance: Advance | None) -> Member:
        path = line.entry.path
        if path not in self._there:
            self._fetch(path)
        self._there.discard(path)
        name = self._stored.name(path)
        if line.entry.size > _TOGETHER:
            return line.member(counted(self._streamed(name), advance))
        try:
            file = open(encoded(f"{self._folder}/{name}"), "rb")  # noqa: PTH123, SIM115 -- bytes; closed when it was read
        except FileNotFoundError:
            return line.member(_missing(path))
        Path(f"{self._folder}/{name}").unlink()
        return line.member(read_file(file, advance))

    def _streamed(self, name: str) -> Iterator[memoryview]:
        with self._stored.stream(name) as output:
            while chunk := output.read(_MIB):
                yield memoryview(chunk)

    def _fetch(self, path: str) -> None:
        """The batch that holds this file; the one before is removed."""
        if self._batches is None:
            self._batches = self._batched()
        for batch in self._batches:
            self._there = {line.entry.path for line in batch}
            if path not in self._there:
                continue
            self._fetched.close()
            if batch[0].entry.size <= _TOGETHER:
                names = [self._stored.name(line.entry.path) for line in batch]
                self._folder = self._fetched.enter_context(self._stored.fetched(names))
            return
        raise DamageFound("the record is not in order", on=readable(path), hint=_HINT)

    def _batched(self) -> Iterator[list[Line]]:
        batch: list[Line] = []
        size = 0
        for line in self._files():
            if line.entry.size > _TOGETHER:
                if batch:
                    yield batch
                yield [line]
                batch, size = [], 0
                continue
            if len(batch) == _AT_ONCE or size + line.entry.size > _TOGETHER:
                yield batch
                batch, size = [], 0
            batch.append(line)
            size += line.entry.size
        if batch:
            yield batch

    def _files(self) -> Iterator[Line]:
        with open(self._lines.name, "rb") as lines:  # noqa: PTH123 -- another reader has a place in it
            for line in parse_lines(lines):
                if line.entry.kind == "file" and (self._wanted is None or self._wanted(line.entry.path)):
                    yield line

    def close(self) -> None:
        self._fetched.close()


def _missing(path: str) -> Iterator[memoryview]:
    """The error is raised when the contents are read: so it is known whose they are."""
    yield from ()
    raise DamageFound("a file is missing in the store, or damaged", on=readable(path), hint=_HINT)


class _Tree:
    """The next files are its own."""

    def __init__(self, files: _Files) -> None:
        self._files = files

    def member(self, line: Line, advance: Advance | None) -> Member:
        return self._files.member(line, advance)

    def close(self) -> None:
        pass
