"""What a generation holds of single files."""

from __future__ import annotations

from collections.abc import Mapping

from scriptorium.errors import DamageFound
from scriptorium.manifest import readable
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line, Place
from scriptorium.stores.trees.rsync.site import Site


class GenerationLookup:
    """``folder``: of the contents."""

    def __init__(self, site: Site, folder: str) -> None:
        self._site, self._folder = site, folder
        self._nodes: dict[str, Node] = {}

    @property
    def tool(self) -> str:
        return "rsync"

    def nodes(self, files: Mapping[str, tuple[Place, Line]]) -> Mapping[str, Node]:
        self._nodes |= self._site.nodes(self._folder, {path: line for path, (_, line) in files.items()})
        return self._nodes

    def digest(self, place: Place, line: Line) -> tuple[int, str]:
        path = line.entry.path
        for _, sha256 in self._site.hashes(self._folder, {path: self._nodes[path].size}, None):
            return self._nodes[path].size, sha256
        raise DamageFound("it vanished in the store", on=readable(path))
