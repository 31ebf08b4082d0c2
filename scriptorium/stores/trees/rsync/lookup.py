"""What a generation holds of single files."""

from __future__ import annotations

from collections.abc import Mapping

from scriptorium.errors import DamageFound
from scriptorium.manifest import readable
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line, Place
from scriptorium.stores.trees.rsync.site import Site

_SECOND = 10**9


class GenerationLookup:
    """``folder``: of the contents."""

    def __init__(self, site: Site, folder: str) -> None:
        self._site, self._folder = site, folder
        self._nodes: dict[str, Node] = {}

    @property
    def tool(self) -> str:
        return "rsync"

    def nodes(self, files: Mapping[str, tuple[Place, Line]]) -> Mapping[str, Node]:
        lines = {path: line for path, (_, line) in files.items()}
        found = self._site.nodes(self._folder, lines)
        self._nodes |= {path: node for path, node in found.items() if not _is_piece(node, lines[path])}
        return self._nodes

    def digest(self, place: Place, line: Line) -> tuple[int, str]:
        path = line.entry.path
        for _, sha256 in self._site.hashes(self._folder, {path: self._nodes[path].size}, None):
            return self._nodes[path].size, sha256
        raise DamageFound("it vanished in the store", on=readable(path))


def _is_piece(node: Node, line: Line) -> bool:
    """Whether this is what rsync keeps of a file that it could not read to its end: it has no time."""
    return node.mtime_ns < _SECOND <= line.entry.mtime_ns
