"""What arrived in a remote: compared by the hashes that it computed, and else read back.

A hash of the remote is worth something if it was computed there from what arrived. Where it is another one than
SHA-256, the file on this disk is read once more, and both of its hashes count: one is compared with the record, the
other with the remote's. What the remote copied from an earlier backup was compared when it arrived there: its size, and
its hash where there is one, are what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.rclone.earlier import Earlier
from scriptorium.stores.trees.rclone.files import Stored, sums_of
from scriptorium.stores.trees.rclone.layout import Entry
from scriptorium.stores.trees.record import Line, tree_of

Check = Literal["auto", "hashes", "read"]


@dataclass(slots=True)
class Arrival:
    """``entries``: what the remote lists. ``wrong``: missing, or another file; ``unread``: not compared by a hash;
    ``hashes``: of those that were, by their stored names."""

    entries: Mapping[str, Entry]
    wrong: list[Line] = field(default_factory=list)
    unread: list[Line] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)


def compared(stored: Stored, package: TreePackage, earlier: Earlier, check: Check) -> Arrival:
    """``check``: whether hashes of the remote count: where they were computed there, always, never."""
    kind = stored.hash if check != "read" else ""
    arrival = Arrival(stored.entries(hashes=bool(kind)))
    for line in package.lines():
        if line.entry.kind != "file":
            continue
        name = stored.name(line.entry.path)
        found = arrival.entries.get(name)
        if found is None or found.size != line.entry.size:
            arrival.wrong.append(line)
            continue
        here = f"{kind}:{found.hash}" if kind and found.hash else ""
        before = _before(stored, earlier, line.entry.path) if check != "read" else None
        if before is not None and (not before or not here or before == here):
            arrival.hashes[name] = here
            continue
        counts = kind and found.hash and (check == "hashes" or stored.computed(found.size))
        wanted = _wanted(package, line, kind) if counts else None
        if wanted is None:
            arrival.unread.append(line)
        elif wanted != found.hash:
            arrival.wrong.append(line)
        else:
            arrival.hashes[name] = here
    return arrival


def _before(stored: Stored, earlier: Earlier, path: str) -> str | None:
    """The hash that a file has in the earlier backup from which the remote copied it; ``None`` if it was sent."""
    return earlier.same.get(path) if path not in stored.renamed else None


def _wanted(package: TreePackage, line: Line, kind: str) -> str | None:
    """The hash of what we read: as it is in the record, or of the file itself, if it is still the same."""
    if kind == "sha256":
        return line.entry.sha256
    sums = sums_of(tree_of(line, package.places).on_disk(line.entry.path), kind)
    return sums.other if sums is not None and sums.sha256 == line.entry.sha256 else None
