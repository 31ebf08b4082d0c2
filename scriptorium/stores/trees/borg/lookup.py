"""What borg keeps of single files of an archive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from scriptorium.stores.trees.borg.items import as_printed, item_of
from scriptorium.stores.trees.borg.program import Borg
from scriptorium.stores.trees.borg.reading import digest_of, one_file
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line, Place

_FORMAT = "{type}{NUL}{size}{NUL}{source}{NUL}{isomtime}{NUL}{bpath}{NUL}"
_FIELDS = 5
_FILE, _FURTHER_NAME = b"-", b"h"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ArchiveLookup:
    """Looks files up in an archive."""

    def __init__(self, program: Borg, archive: str) -> None:
        self._program, self._archive = program, archive

    @property
    def tool(self) -> str:
        return "borg"

    def nodes(self, files: Mapping[str, tuple[Place, Line]]) -> Mapping[str, Node]:
        items = ((path, item_of(place, line)) for path, (place, line) in files.items())
        known = nodes(self._program, self._archive, items)
        return {path: _exact(node, files[path][1]) for path, node in known.items()}

    def digest(self, place: Place, line: Line) -> tuple[int, str]:
        return digest_of(one_file(self._program, self._archive, place, line))


def _exact(node: Node, line: Line) -> Node:
    """borg prints times in microseconds, and no size of a further name of a file."""
    entry = line.entry
    same = node.mtime_ns // 1000 == entry.mtime_ns // 1000
    return Node(node.size if node.size >= 0 else entry.size, entry.mtime_ns if same else node.mtime_ns)


def nodes(program: Borg, archive: str, items: Iterable[tuple[str, str]]) -> dict[str, Node]:
    """Size (-1: of a further name) and mtime of these files, of those that the archive has. ``items``: pairs of a name
    for the result and the path in the archive, in the order of the archive: some paths are printed alike."""
    wanted: dict[str, deque[str]] = {}
    for name, item in items:
        wanted.setdefault(as_printed(item), deque()).append(name)
    found: dict[str, Node] = {}
    for printed, node in _listed(program, archive):
        names = wanted.get(printed)
        if names:
            found[names.popleft()] = node
    return found


def _listed(program: Borg, archive: str) -> Iterator[tuple[str, Node]]:
    with program.stream("list", f"--format={_FORMAT}", f"::{archive}") as output:
        fields: list[bytes] = []
        rest = b""
        while chunk := output.read1(1 << 20):
            *whole, rest = (rest + chunk).split(b"\0")
            fields += whole
            usable = len(fields) // _FIELDS * _FIELDS
            for at in range(0, usable, _FIELDS):
                kind, size, source, mtime, path = fields[at : at + _FIELDS]
                if kind in (_FILE, _FURTHER_NAME):
                    node = Node(-1 if source else int(size), _nanoseconds(mtime.decode()))
                    yield path.decode("utf-8", "replace"), node
            del fields[:usable]


def _nanoseconds(text: str) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
