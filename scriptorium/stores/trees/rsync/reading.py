"""A generation on its way back: contents as they lie there, everything else from the record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from scriptorium.errors import DamageFound, NotFound
from scriptorium.fs.system_errors import reason_of
from scriptorium.manifest import readable
from scriptorium.members import Member
from scriptorium.model import Manifest
from scriptorium.progress import Advance
from scriptorium.stores.trees.reading import Contents, Recorded, Request, Wanted
from scriptorium.stores.trees.record import MEMBERS, TREES, Line, Place, load_places, parse_lines
from scriptorium.stores.trees.rsync.generations import CONTENTS, MANIFEST
from scriptorium.stores.trees.rsync.site import Site

_CHUNK = 1 << 20
_RECORD = (MANIFEST, TREES, MEMBERS)
_HINT = "use another copy of this backup"


@contextmanager
def recorded(site: Site, key: str, location: str, wanted: Wanted | None = None) -> Iterator[Recorded]:
    """The record of a backup. ``wanted``: of the contents nothing else is read. ``NotFound``, ``DamageFound``."""
    with site.fetched(key, _RECORD) as files:
        if MANIFEST not in files:
            raise NotFound("there is no such backup", on=location)
        if missing := set(_RECORD) - files.keys():
            raise DamageFound(f"the record lacks {', '.join(sorted(missing))}", on=location, hint=_HINT)
        places = load_places(files[TREES].read_bytes())
        with files[MEMBERS].open("rb") as lines, contextlib.closing(_Files(site, key, lines, wanted)) as contents:
            yield Recorded(files[MANIFEST].read_bytes(), places, lines, contents.of_tree)


class _Files:
    """The wanted files of a backup, one after the other, whatever tree they are in."""

    def __init__(self, site: Site, key: str, lines: IO[bytes], wanted: Wanted | None) -> None:
        self._site, self._key, self._lines, self._wanted = site, key, lines, wanted
        self._opened: Iterator[tuple[str, IO[bytes]]] | None = None
        self._next: tuple[str, IO[bytes]] | None = None

    def of_tree(self, manifest: Manifest, place: Place, request: Request) -> Contents:
        return _Tree(self)

    def member(self, line: Line, advance: Advance | None) -> Member:
        if self._opened is None:
            self._opened = self._site.opened(f"{self._key}/{CONTENTS}", self._sizes())
        if self._next is None:
            self._next = next(self._opened, None)
        if self._next is None or self._next[0] != line.entry.path:
            raise DamageFound("a file is missing in the store", on=readable(line.entry.path), hint=_HINT)
        (_, file), self._next = self._next, None
        return line.member(_pieces(file, advance))

    def _sizes(self) -> dict[str, int]:
        self._lines.seek(0)
        return {
            line.entry.path: line.entry.size
            for line in parse_lines(self._lines)
            if line.entry.kind == "file" and (self._wanted is None or self._wanted(line.entry.path))
        }

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()  # type: ignore[attr-defined]


class _Tree:
    """The next files are its own."""

    def __init__(self, files: _Files) -> None:
        self._files = files

    def member(self, line: Line, advance: Advance | None) -> Member:
        return self._files.member(line, advance)

    def close(self) -> None:
        pass


def _pieces(file: IO[bytes], advance: Advance | None) -> Iterator[memoryview]:
    while chunk := _piece(file):
        if advance is not None:
            advance(len(chunk))
        yield memoryview(chunk)


def _piece(file: IO[bytes]) -> bytes:
    try:
        return file.read(_CHUNK)
    except OSError as error:
        raise DamageFound(f"the store cannot read it: {reason_of(error)}", on=str(file.name), hint=_HINT) from error
