"""A backup on its way back from borg: one stream for each tree, in the order in which the archive was made.

That is the order of the record, so one pass is enough.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

from scriptorium.archive.reader import Reader
from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import readable
from scriptorium.members import Member
from scriptorium.model import Manifest
from scriptorium.progress import Advance
from scriptorium.stores.trees.borg.archives import Found
from scriptorium.stores.trees.borg.items import item_of, patterns_of
from scriptorium.stores.trees.borg.program import Borg
from scriptorium.stores.trees.reading import Contents, Recorded, Request, counted
from scriptorium.stores.trees.record import MEMBERS, TREES, Line, Place, load_places

MANIFEST_FILE = "manifest.json"
_LARGEST_OWN = 256 << 20
_HINT = "use another copy of this backup"


@contextmanager
def recorded(program: Borg, found: Found | None, location: str) -> Iterator[Recorded]:
    """What the manifest's archive holds. ``NotFound``, ``DamageFound``."""
    if found is None:
        raise NotFound("there is no such backup", on=location)
    with tempfile.TemporaryFile() as lines:
        documents: dict[str, bytes] = {}
        for member in tar(program, found.manifest.name):
            if member.entry.path == MEMBERS:
                for chunk in member.chunks():
                    lines.write(chunk)
            elif member.entry.path in (MANIFEST_FILE, TREES) and member.entry.size <= _LARGEST_OWN:
                documents[member.entry.path] = member.contents()
        lines.flush()
        missing = {MANIFEST_FILE, TREES} - documents.keys()
        if missing:
            raise DamageFound(f"the manifest's archive lacks {', '.join(sorted(missing))}", on=location, hint=_HINT)
        contents = functools.partial(_contents, program, found, location)
        yield Recorded(documents[MANIFEST_FILE], load_places(documents[TREES]), lines, contents)


def _contents(
    program: Borg, found: Found, location: str, manifest: Manifest, place: Place, request: Request
) -> Contents:
    if found.contents is None:
        raise NotFound("the archive of its contents is missing", on=location)
    if place.single or request.few:
        return _Singly(program, found.contents.name, place)
    return _Folder(program, found.contents.name, place, request.common or [])


class _Singly:
    """Each file by a call of its own."""

    def __init__(self, program: Borg, archive: str, place: Place) -> None:
        self._program, self._archive, self._place = program, archive, place

    def member(self, line: Line, advance: Advance | None) -> Member:
        return line.member(counted(one_file(self._program, self._archive, self._place, line), advance))

    def close(self) -> None:
        pass


class _Folder:
    """All files of a folder in one stream."""

    def __init__(self, program: Borg, archive: str, place: Place, folders: list[str]) -> None:
        self._program, self._archive, self._place = program, archive, place
        folder = "/".join(folders).strip("/")
        whole = not folder or "\r" in place.in_tool("") or any("\r" in one for one in folders)
        self._found = tar(program, archive, *([] if whole else [f"pp:{folder}", "pp:renamed"]))

    def member(self, line: Line, advance: Advance | None) -> Member:
        item = item_of(self._place, line)
        for found in self._found:
            if found.entry.path.lstrip("/") == item:
                if found.entry.kind == "hardlink":  # its first name is another tree's
                    return line.member(counted(one_file(self._program, self._archive, self._place, line), advance))
                if found.entry.kind == "file":
                    return line.member(counted(found.chunks(), advance), found.entry.size)
            pass_over(found)
        raise DamageFound("a file is missing in the archive", on=readable(line.entry.path), hint=_HINT)

    def close(self) -> None:
        self._found.close()


def one_file(program: Borg, archive: str, place: Place, line: Line) -> Iterator[memoryview]:
    """The contents of one file. ``DamageFound`` if the archive does not have it."""
    with patterns_of([item_of(place, line)]) as words:
        found = tar(program, archive, words=words)
        try:
            for member in found:
                if member.entry.kind == "file":
                    yield from member.chunks()
                    return
                pass_over(member)
        finally:
            found.close()
    raise DamageFound("a file is missing in the archive", on=readable(line.entry.path), hint=_HINT)


def digests(program: Borg, archive: str, wanted: Iterable[tuple[Place, Line]]) -> Iterator[tuple[Line, str | None]]:
    """The SHA-256 of these files, which come in the order of the archive; ``None`` of one that it does not have."""
    pairs = list(wanted)
    with patterns_of(item_of(place, line) for place, line in pairs) as words:
        found = tar(program, archive, words=words)
        try:
            for place, line in pairs:
                yield line, _digest_in(program, archive, found, place, line)
        finally:
            found.close()


def _digest_in(program: Borg, archive: str, found: Iterator[Member], place: Place, line: Line) -> str | None:
    item = item_of(place, line)
    for member in found:
        if member.entry.path.lstrip("/") == item:
            if member.entry.kind == "file":
                return digest_of(member.chunks())[1]
            if member.entry.kind == "hardlink":
                return digest_of(one_file(program, archive, place, line))[1]
        pass_over(member)
    return None


def digest_of(chunks: Iterable[memoryview]) -> tuple[int, str]:
    """Size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def tar(program: Borg, archive: str, *paths: str, words: tuple[str, ...] = ()) -> Generator[Member, None, None]:
    """The members that ``borg export-tar`` gives. What makes it end early is raised as borg logs it."""
    broken: DamageFound | None = None
    with program.stream("export-tar", *words, f"::{archive}", "-", *paths) as output:
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


def pass_over(member: Member) -> None:
    for _ in member.chunks():
        pass
