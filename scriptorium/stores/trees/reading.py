"""A backup on its way back: contents as the tool returns them, everything else from the record."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Protocol

from scriptorium.manifest import entry_line, loads
from scriptorium.members import Member
from scriptorium.members.selection import encoded
from scriptorium.model import FileEntry, Manifest
from scriptorium.progress import Advance
from scriptorium.stores.trees.record import Line, Place, parse_lines, tree_of

_MIB = 1 << 20
FEW = 3  # files: so many are read one by one

Wanted = Callable[[str], bool]


@dataclass(slots=True)
class Request:
    """What is wanted of one tree. ``files``: how many it has; ``wanted``: the first paths, as the tool calls them;
    ``common``: the folders that all of them lie in."""

    files: int = 0
    wanted: list[str] = field(default_factory=list)
    count: int = 0
    common: list[str] | None = None
    attributes: set[str] = field(default_factory=set)  # the names of all extended attributes

    def add(self, path: str) -> None:
        self.count += 1
        if len(self.wanted) <= FEW:
            self.wanted.append(path)
        folders = path.split("/")[:-1]
        self.common = folders if self.common is None else _shared(self.common, folders)

    @property
    def few(self) -> bool:
        """Whether a few files are wanted, and others are there."""
        return self.count <= FEW and self.count < self.files


class Contents(Protocol):
    """Contents of the files of a tree, in the order of their names."""

    def member(self, line: Line, advance: Advance | None) -> Member:
        """The file with its contents. ``DamageFound`` when it is missing or damaged."""
        ...

    def close(self) -> None: ...


Open = Callable[[Manifest, Place, Request], Contents]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of one backup. ``file``: its lines; ``open``: the way to the contents of a tree."""

    manifest_bytes: bytes
    places: tuple[Place, ...]
    file: IO[bytes]
    open: Open

    @property
    def manifest(self) -> Manifest:
        return loads(self.manifest_bytes)

    def lines(self) -> Iterator[Line]:
        self.file.seek(0)
        yield from parse_lines(self.file)

    def members(self, wanted: Wanted | None, advance: Advance | None) -> Generator[Member, None, None]:
        """See ``BackupStore.members``."""
        manifest = self.manifest
        requests = self._requests(wanted)
        with contextlib.ExitStack() as stack:
            current: Contents | None = None
            opened = -1
            for line, number in _numbered(self._copied_lines(stack)):
                if wanted is not None and not wanted(line.entry.path):
                    continue
                if line.entry.kind != "file":
                    yield line.member(iter(()))
                    continue
                if current is None or number != opened:
                    if current is not None:
                        current.close()
                    place = tree_of(line, self.places)
                    opened, current = number, self.open(manifest, place, requests[number])
                    stack.callback(current.close)
                yield current.member(line, advance)
        if manifest.files.member is not None:
            yield self._listing(manifest.files.member)

    def _copied_lines(self, stack: contextlib.ExitStack) -> Iterator[Line]:
        """The lines by a descriptor of their own: several readers may be at work."""
        file = stack.enter_context(os.fdopen(os.open(f"/proc/self/fd/{self.file.fileno()}", os.O_RDONLY), "rb"))
        return parse_lines(file)

    def _requests(self, wanted: Wanted | None) -> dict[int, Request]:
        """By the number of the stream."""
        requests: dict[int, Request] = {}
        for line, number in _numbered(self.lines()):
            if line.tree is None:
                continue
            request = requests.setdefault(number, Request())
            request.attributes.update(line.xattrs)
            if line.entry.kind != "file":
                continue
            request.files += 1
            if wanted is None or wanted(line.entry.path):
                request.add(tree_of(line, self.places).in_tool(line.entry.path))
        return requests

    def _listing(self, name: str) -> Member:
        """The list of members, as the manifest's hash knows it."""
        spool = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when it was read
        size = sum(spool.write(entry_line(line.entry)) for line in self.lines())
        spool.seek(0)
        entry = FileEntry(name, "file", size, 0o600, 0)
        return Member(entry, os.getuid(), os.getgid(), "", "", {}, {}, read_file(spool))


def _numbered(lines: Iterator[Line]) -> Iterator[tuple[Line, int]]:
    """Each line with the number of the stream that brings its contents. Another one begins with another tree, and where
    the record goes back in the order of names: a copy of another store's backup is one tree, part after part."""
    number, tree = -1, None
    last: list[bytes] = []
    for line in lines:
        if line.tree is not None and line.tree != tree:
            number, tree, last = number + 1, line.tree, []
        if line.tree is not None and line.entry.kind == "file":
            names = encoded(line.entry.path).split(b"/")
            number, last = number + (names < last), names
        yield line, number


def read_file(file: IO[bytes], advance: Advance | None = None) -> Iterator[memoryview]:
    """The contents of an open file in pieces; it is closed at the end."""
    with file:
        while chunk := file.read(_MIB):
            if advance is not None:
                advance(len(chunk))
            yield memoryview(chunk)


def counted(chunks: Iterable[memoryview], advance: Advance | None) -> Iterator[memoryview]:
    """The same pieces; ``advance`` gets the size of each."""
    for chunk in chunks:
        if advance is not None:
            advance(len(chunk))
        yield chunk


def _shared(one: list[str], other: list[str]) -> list[str]:
    """The folders that two paths have in common."""
    count = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:count]
