"""What restic keeps of single files of a snapshot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from scriptorium.members.selection import encoded
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line, Place
from scriptorium.stores.trees.restic.program import Restic


class SnapshotLookup:
    """Looks files up in a snapshot. ``words`` name it."""

    def __init__(self, program: Restic, words: Sequence[str]) -> None:
        self._program, self._words = program, words

    @property
    def tool(self) -> str:
        return "restic"

    def nodes(self, files: Mapping[str, tuple[Place, Line]]) -> Mapping[str, Node]:
        paths = {path: as_printed(place.in_tool(path)) for path, (place, _) in files.items()}
        known = nodes(self._program, self._words, set(paths.values()))
        return {path: known[printed] for path, printed in paths.items() if printed in known}

    def digest(self, place: Place, line: Line) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        with self._program.stream("dump", *self._words, place.in_tool(line.entry.path)) as output:
            while chunk := output.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
        return size, digest.hexdigest()


def as_printed(path: str) -> bytes:
    """restic prints JSON, where bytes that are not UTF-8 are lost."""
    return encoded(path).decode("utf-8", "replace").encode()


def nodes(program: Restic, words: Sequence[str], wanted: set[bytes]) -> dict[bytes, Node]:
    """Size and mtime of these files in the snapshot."""
    found: dict[bytes, Node] = {}
    with program.stream("ls", "--json", *words) as output:
        for line in output:
            node = json.loads(line)
            if node.get("type") == "file" and (path := str(node.get("path")).encode("utf-8", "replace")) in wanted:
                found[path] = Node(int(node.get("size", 0)), _nanoseconds(str(node.get("mtime", ""))))
    return found


def _nanoseconds(text: str) -> int:
    """A time as Go prints it, with up to nine places."""
    whole, zone = (text[:-1], "+00:00") if text.endswith("Z") else (text[:-6], text[-6:])
    seconds, _, rest = whole.partition(".")
    return int(datetime.fromisoformat(seconds + zone).timestamp()) * 10**9 + int(rest.ljust(9, "0")[:9] or 0)
