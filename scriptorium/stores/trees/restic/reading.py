"""A backup on its way back: contents from restic in one stream for each tree, everything else from the record.

restic lists the files of a folder in the order of our record, so one pass is enough. Where few files of a tree are
wanted, only these are read; where many are, the folder that holds them all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from scriptorium.archive.reader import Reader
from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import entry_line, loads, readable
from scriptorium.members import Member
from scriptorium.model import FileEntry, Manifest
from scriptorium.progress import Advance
from scriptorium.stores.trees.record import MEMBERS, TREES, Line, Place, load_places, parse_lines, tree_of
from scriptorium.stores.trees.restic import snapshots as ours
from scriptorium.stores.trees.restic.program import NoRepository, Restic

_MIB = 1 << 20
_MANIFEST = "manifest.json"
_SINGLY = 3
_LARGEST_OWN = 256 << 20
_HINT = "use another copy of this backup"

Wanted = Callable[[str], bool]


@contextmanager
def recorded(program: Restic, key: str, location: str) -> Iterator[Recorded]:
    """What the newest manifest snapshot of this key holds. ``NotFound``, ``DamageFound``."""
    tags = ours.tag_words(ours.tags_of_key(key, ours.MANIFEST))
    with tempfile.TemporaryFile() as lines:
        found: dict[str, bytes] = {}
        try:
            for member in _tar(program, f"--tag={tags}", "latest", "/"):
                if member.entry.path == MEMBERS:
                    for chunk in member.chunks():
                        lines.write(chunk)
                elif member.entry.path in (_MANIFEST, TREES) and member.entry.size <= _LARGEST_OWN:
                    found[member.entry.path] = member.contents()
        except (NotFound, NoRepository):
            raise NotFound("there is no such backup", on=location) from None
        lines.flush()
        missing = {_MANIFEST, TREES} - found.keys()
        if missing:
            raise DamageFound(f"the manifest's snapshot lacks {', '.join(sorted(missing))}", on=location, hint=_HINT)
        yield Recorded(program, key, found[_MANIFEST], load_places(found[TREES]), lines)


@dataclass(slots=True)
class _Plan:
    """How the contents of one tree are had."""

    files: int = 0
    wanted: list[str] = field(default_factory=list)  # the first ones
    count: int = 0
    common: list[str] | None = None
    no_tar: bool = False  # an attribute has a name that restic cannot write into a tar stream

    def add(self, path: str) -> None:
        self.count += 1
        if len(self.wanted) <= _SINGLY:
            self.wanted.append(path)
        folders = path.split("/")[:-1]
        self.common = folders if self.common is None else _shared(self.common, folders)

    @property
    def singly(self) -> bool:
        return self.no_tar or (self.count <= _SINGLY and self.count < self.files)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of one backup, and the way to its contents."""

    program: Restic
    key: str
    manifest_bytes: bytes
    places: tuple[Place, ...]
    file: IO[bytes]

    @property
    def manifest(self) -> Manifest:
        return loads(self.manifest_bytes)

    def lines(self) -> Iterator[Line]:
        self.file.seek(0)
        yield from parse_lines(self.file)

    def members(self, wanted: Wanted | None, advance: Advance | None) -> Generator[Member, None, None]:
        """See ``BackupStore.members``."""
        manifest = self.manifest
        plans = self._plans(wanted)
        with contextlib.ExitStack() as stack:
            current: _Contents | None = None
            tree: int | None = None
            for line in self._copied_lines(stack):
                if wanted is not None and not wanted(line.entry.path):
                    continue
                if line.entry.kind != "file":
                    yield line.member(iter(()))
                    continue
                if current is None or line.tree != tree:
                    if current is not None:
                        current.close()
                    place = tree_of(line, self.places)
                    tree, current = line.tree, self._contents(place, plans[line.tree or 0])
                    stack.callback(current.close)
                yield current.member(line, advance)
        if manifest.files.member is not None:
            yield self._listing(manifest.files.member)

    def _copied_lines(self, stack: contextlib.ExitStack) -> Iterator[Line]:
        """The lines by a descriptor of their own: several readers may be at work."""
        file = stack.enter_context(os.fdopen(os.open(f"/proc/self/fd/{self.file.fileno()}", os.O_RDONLY), "rb"))
        return parse_lines(file)

    def _plans(self, wanted: Wanted | None) -> dict[int, _Plan]:
        plans: dict[int, _Plan] = {}
        for line in self.lines():
            if line.tree is None:
                continue
            plan = plans.setdefault(line.tree, _Plan())
            plan.no_tar |= any("=" in name for name in line.xattrs)
            if line.entry.kind != "file":
                continue
            plan.files += 1
            if wanted is None or wanted(line.entry.path):
                plan.add(tree_of(line, self.places).in_tool(line.entry.path))
        return plans

    @property
    def contents(self) -> tuple[str, str]:
        """The words that name the snapshot of its contents."""
        tags = ours.tags_of_key(self.key, ours.CONTENTS) | {"id": self.manifest.id}
        return f"--tag={ours.tag_words(tags)}", "latest"

    def _contents(self, place: Place, plan: _Plan) -> _Contents:
        if place.single or plan.singly:
            return _Singly(self.program, self.contents, place)
        return _Folder(self.program, self.contents, place, "/".join(plan.common or []) or "/")

    def _listing(self, name: str) -> Member:
        """The list of members, as the manifest's hash knows it."""
        spool = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when it was read
        size = sum(spool.write(entry_line(line.entry)) for line in self.lines())
        spool.seek(0)
        entry = FileEntry(name, "file", size, 0o600, 0)
        return Member(entry, os.getuid(), os.getgid(), "", "", {}, {}, _read(spool))


class _Contents:
    """Contents of the files of a tree, in the order of the record."""

    def member(self, line: Line, advance: Advance | None) -> Member:
        raise NotImplementedError

    def close(self) -> None:
        pass


class _Singly(_Contents):
    """Each file by a call of its own."""

    def __init__(self, program: Restic, words: tuple[str, ...], place: Place) -> None:
        self._program, self._words, self._place = program, words, place

    def member(self, line: Line, advance: Advance | None) -> Member:
        return line.member(self._read(self._place.in_tool(line.entry.path), advance))

    def _read(self, path: str, advance: Advance | None) -> Iterator[memoryview]:
        with self._program.stream("dump", *self._words, path) as output:
            while chunk := output.read1(_MIB):
                _tell(advance, len(chunk))
                yield memoryview(chunk)


class _Folder(_Contents):
    """All files of a folder in one stream."""

    def __init__(self, program: Restic, words: tuple[str, ...], place: Place, folder: str) -> None:
        self._place, self._folder = place, folder
        self._found = _tar(program, *words, folder)

    def member(self, line: Line, advance: Advance | None) -> Member:
        path = self._place.in_tool(line.entry.path).lstrip("/")
        for found in self._found:
            if found.entry.kind == "file" and found.entry.path.lstrip("/") == path:
                return line.member(_told(found, advance), found.entry.size)
            _pass_over(found)
        raise DamageFound("a file is missing in the snapshot", on=readable(line.entry.path), hint=_HINT)

    def close(self) -> None:
        self._found.close()


def _tar(program: Restic, *words: str) -> Generator[Member, None, None]:
    """The members that ``restic dump`` gives. What makes it end early is raised as restic says it."""
    broken: DamageFound | None = None
    with program.stream("dump", "--archive=tar", *words) as output:
        try:
            with Reader(output, foreign=True) as reader:
                yield from reader
        except DamageFound as error:
            broken = error
            shutil.copyfileobj(output, _Nowhere())
    if broken is not None:
        raise broken


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


def _told(member: Member, advance: Advance | None) -> Iterator[memoryview]:
    for chunk in member.chunks():
        _tell(advance, len(chunk))
        yield chunk


def _tell(advance: Advance | None, count: int) -> None:
    if advance is not None:
        advance(count)


def _pass_over(member: Member) -> None:
    for _ in member.chunks():
        pass


def _read(file: IO[bytes]) -> Iterator[memoryview]:
    with file:
        while chunk := file.read(_MIB):
            yield memoryview(chunk)


def _shared(one: list[str], other: list[str]) -> list[str]:
    """The folders that two paths have in common."""
    count = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:count]
