"""What changed between our reading and the tool's: the manifest tells what the tool keeps, and names what changed.

A file that is the same (size, mtime, ctime, inode) after the tool ended as when we read it is the file that it read.
Only the others are looked up in the store, and all of them where the tool read another number of files than we did.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from scriptorium.manifest import entry_line, readable
from scriptorium.members.ledger import INLINE, LIST
from scriptorium.members.selection import encoded
from scriptorium.model import MOST_UNSAVED, FileEntry, FileList, Manifest, Part, Unsaved
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import Line, Place, tree_of

log = logging.getLogger(__name__)

_LATER = "changed after it was read: the copy has its later state"
_GONE = "vanished before {tool} read it"
_TREE_GONE = "was gone with its whole tree when {tool} read it, skipped"
_UNREAD = "could not be read by {tool}, skipped"
_FIRST_GONE = "is a further name of a file that {tool} could not read, skipped"
_NAMED = 20


class Node(NamedTuple):
    """A file as the tool lists it."""

    size: int
    mtime_ns: int


class Lookup(Protocol):
    """What the tool keeps of single files. Files are called by their paths in the backup."""

    @property
    def tool(self) -> str:
        """Its name, for messages."""
        ...

    def nodes(self, files: Mapping[str, tuple[Place, Line]]) -> Mapping[str, Node]:
        """Size and mtime of those that it keeps."""
        ...

    def digest(self, place: Place, line: Line) -> tuple[int, str]:
        """The size and SHA-256 of a file, read from the store."""
        ...


@dataclass(slots=True)
class _Found:
    """What the tool keeps instead, by the paths of the members; ``None`` where it keeps nothing."""

    tool: str
    entries: dict[str, FileEntry | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def lost(self, path: str, reason: str) -> None:
        self.entries[path], self.reasons[path] = None, reason.format(tool=self.tool)


def corrected(package: TreePackage, lookup: Lookup, *, incomplete: bool) -> TreePackage:
    """The package as the tool keeps it. ``incomplete``: it is not certain that the tool read everything."""
    in_place: dict[bytes, bool] = {}
    suspects = {
        line.entry.path: line
        for line in package.lines()
        if line.entry.kind == "file"
        and (incomplete or not _in_place(line, package, in_place) or changed(line, tree_of(line, package.places)))
    }
    if not suspects:
        return package
    found = _look_up(package, lookup, suspects)
    if not found.reasons:
        return package
    for warning in _warnings(found):
        log.warning("%s", warning)
    return _rewritten(package, found)


def changed(line: Line, place: Place) -> bool:
    """Whether a file is another one than it was when we read it."""
    try:
        status = os.lstat(encoded(place.on_disk(line.entry.path)))
    except OSError:
        return True
    was = (line.entry.size, line.entry.mtime_ns, line.ctime_ns, line.inode)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) != was


def _in_place(line: Line, package: TreePackage, known: dict[bytes, bool]) -> bool:
    """Whether the folder of a file is where it was: a tool follows no link on the way to it."""
    folder = os.path.dirname(encoded(tree_of(line, package.places).on_disk(line.entry.path)))  # noqa: PTH120 -- bytes
    if folder not in known:
        known[folder] = os.path.realpath(folder) == folder
    return known[folder]


def _warnings(found: _Found) -> Iterator[str]:
    """Each file with its reason; of those with the same reason the first by name, the others by number."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in found.reasons.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        yield from (f"{readable(path)}: {reason}" for path in paths[:_NAMED])
        if len(paths) > _NAMED:
            yield f"{len(paths) - _NAMED} more files: {reason}"


def _look_up(package: TreePackage, lookup: Lookup, suspects: Mapping[str, Line]) -> _Found:
    files = {path: (tree_of(line, package.places), line) for path, line in suspects.items()}
    known = lookup.nodes(files)
    found = _Found(lookup.tool)
    for path, (place, line) in files.items():
        entry, node = line.entry, known.get(path)
        if node is None:
            found.lost(path, _why_not(place, path))
        elif node != (entry.size, entry.mtime_ns) or changed(line, place):
            size, sha256 = lookup.digest(place, line)
            if sha256 != entry.sha256:
                found.entries[path] = replace(entry, size=size, mtime_ns=node.mtime_ns, sha256=sha256)
                found.reasons[path] = _LATER
    return found


def _why_not(place: Place, path: str) -> str:
    if os.path.lexists(encoded(place.on_disk(path))):
        return _UNREAD
    return _GONE if place.single or os.path.lexists(encoded(place.root)) else _TREE_GONE


def _rewritten(package: TreePackage, found: _Found) -> TreePackage:
    """The record and the manifest with what was found."""
    record = package.record.with_name(f"{package.record.name}.corrected")
    digest, count, contents = hashlib.sha256(), 0, 0
    entries: list[FileEntry] = []
    with record.open("wb") as file:
        for line in _lines(package, found):
            file.write(line.written())
            digest.update(entry_line(line.entry))
            count += 1
            contents += line.entry.size
            if count <= INLINE:
                entries.append(line.entry)
    inline = package.manifest.files.entries is not None
    files = FileList(count, digest.hexdigest(), tuple(entries) if inline else None, None if inline else LIST)
    manifest = replace(
        package.manifest,
        files=files,
        parts=tuple(_part(part, package, found) for part in package.manifest.parts),
        warnings=(
            *package.manifest.warnings,
            *_warnings(found),
        ),
    )
    return replace(package, manifest=manifest, record=record, contents=contents)


def _lines(package: TreePackage, found: _Found) -> Iterator[Line]:
    lost: set[str] = {path for path, entry in found.entries.items() if entry is None}
    for line in package.lines():
        path = line.entry.path
        if line.entry.kind == "hardlink" and line.entry.target in lost:
            found.lost(path, _FIRST_GONE)
            lost.add(path)
        elif path in found.entries:
            entry = found.entries[path]
            if entry is not None:
                yield replace(line, entry=entry, known=False)
        else:
            yield line


def _part(part: Part, package: TreePackage, found: _Found) -> Part:
    """With the bytes, the files and the losses that are so."""
    sizes = {entry.path: entry.size for entry in _originals(package, found)}
    mine = {path: entry for path, entry in found.entries.items() if _owner(path, package.manifest) == part.source}
    if not mine:
        return part
    lost = [path for path, entry in mine.items() if entry is None]
    unread = [path for path in lost if found.reasons[path] != _GONE.format(tool=found.tool)]
    bytes = part.bytes + sum((entry.size if entry else 0) - sizes.get(path, 0) for path, entry in mine.items())
    named = [Unsaved(part.source, path, found.reasons[path]) for path in unread]
    return replace(
        part,
        bytes=bytes,
        files=part.files - len(lost),
        unsaved=(*part.unsaved, *named)[:MOST_UNSAVED],
        unsaved_count=part.unsaved_count + len(unread),
    )


def _originals(package: TreePackage, found: _Found) -> Iterator[FileEntry]:
    return (line.entry for line in package.lines() if line.entry.path in found.entries)


def _owner(path: str, manifest: Manifest) -> str:
    """The source of the part that a member belongs to: the one with the longest path above it."""
    above = [part for part in manifest.parts if not part.path or path == part.path or path.startswith(f"{part.path}/")]
    return max(above, key=lambda part: len(part.path)).source if above else ""
