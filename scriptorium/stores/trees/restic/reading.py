"""A backup on its way back from restic: one stream for each tree.

restic lists the files of a folder in the order of their names, so one pass is enough. Where few files of a tree are
wanted, only these are read; where many are, the folder that holds them all.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from scriptorium.archive.reader import Reader
from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import readable
from scriptorium.members import Member
from scriptorium.model import Manifest
from scriptorium.progress import Advance
from scriptorium.stores.trees.reading import Contents, Recorded, Request, counted
from scriptorium.stores.trees.record import MEMBERS, TREES, Line, Place, load_places
from scriptorium.stores.trees.restic import snapshots as ours
from scriptorium.stores.trees.restic.failures import NoRepository
from scriptorium.stores.trees.restic.program import Restic

_MIB = 1 << 20
_MANIFEST = "manifest.json"
_LARGEST_OWN = 256 << 20
_HINT = "use another copy of this backup"


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
        contents = functools.partial(_contents, program, key)
        yield Recorded(found[_MANIFEST], load_places(found[TREES]), lines, contents)


def contents_of(key: str, manifest: Manifest) -> tuple[str, str]:
    """The words that name the snapshot of a backup's contents."""
    tags = ours.tags_of_key(key, ours.CONTENTS) | {"id": manifest.id}
    return f"--tag={ours.tag_words(tags)}", "latest"


def _contents(program: Restic, key: str, manifest: Manifest, place: Place, request: Request) -> Contents:
    words = contents_of(key, manifest)
    unfit = any("=" in name for name in request.attributes)  # restic cannot write such a name into a tar stream
    if place.single or unfit or request.few:
        return _Singly(program, words, place)
    return _Folder(program, words, place, "/".join(request.common or []) or "/")


class _Singly:
    """Each file by a call of its own."""

    def __init__(self, program: Restic, words: tuple[str, ...], place: Place) -> None:
        self._program, self._words, self._place = program, words, place

    def member(self, line: Line, advance: Advance | None) -> Member:
        return line.member(counted(self._read(self._place.in_tool(line.entry.path)), advance))

    def _read(self, path: str) -> Iterator[memoryview]:
        with self._program.stream("dump", *self._words, path) as output:
            while chunk := output.read1(_MIB):
                yield memoryview(chunk)

    def close(self) -> None:
        pass


class _Folder:
    """All files of a folder in one stream."""

    def __init__(self, program: Restic, words: tuple[str, ...], place: Place, folder: str) -> None:
        self._place, self._folder = place, folder
        self._found = _tar(program, *words, folder)

    def member(self, line: Line, advance: Advance | None) -> Member:
        path = self._place.in_tool(line.entry.path).lstrip("/")
        for found in self._found:
            if found.entry.kind == "file" and found.entry.path.lstrip("/") == path:
                return line.member(counted(found.chunks(), advance), found.entry.size)
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


def _pass_over(member: Member) -> None:
    for _ in member.chunks():
        pass
