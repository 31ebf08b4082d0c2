"""What changed between our reading and restic's: the manifest tells what restic holds, and names what changed.

A file that is the same (size, mtime, ctime, inode) after restic ended as when we read it is the file that restic read.
Only the others are looked up in the snapshot, and all of them where restic saw another number of files than we did.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from scriptorium.manifest import entry_line, readable
from scriptorium.members.ledger import INLINE, LIST
from scriptorium.members.selection import encoded
from scriptorium.model import MOST_UNSAVED, FileEntry, FileList, Manifest, Part, Unsaved
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import Line, Place, tree_of
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.stores.trees.restic.targets import changed

log = logging.getLogger(__name__)

_LATER = "changed after it was read: the copy has its later state"
_GONE = "vanished before restic read it"
_TREE_GONE = "was gone with its whole tree when restic read it, skipped"
_UNREAD = "could not be read by restic, skipped"
_FIRST_GONE = "is a further name of a file that restic could not read, skipped"
_NAMED = 20


@dataclass(slots=True)
class _Found:
    """What restic holds instead, by the paths of the members; ``None`` where it holds nothing."""

    entries: dict[str, FileEntry | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def corrected(program: Restic, package: TreePackage, words: Sequence[str], *, incomplete: bool) -> TreePackage:
    """The package as restic holds it. ``words`` name the snapshot of its contents. ``incomplete``: restic said that
    something could not be read."""
    in_place: dict[bytes, bool] = {}
    suspects = {
        line.entry.path: line
        for line in package.lines()
        if line.entry.kind == "file"
        and (incomplete or not _in_place(line, package, in_place) or changed(line, tree_of(line, package.places)))
    }
    if not suspects:
        return package
    found = _look_up(program, package, words, suspects)
    if not found.reasons:
        return package
    for said in _said(found):
        log.warning("%s", said)
    return _rewritten(package, found)


def _in_place(line: Line, package: TreePackage, known: dict[bytes, bool]) -> bool:
    """Whether the folder of a file is where it was: restic follows no link on the way to it."""
    folder = os.path.dirname(encoded(tree_of(line, package.places).on_disk(line.entry.path)))  # noqa: PTH120 -- bytes
    if folder not in known:
        known[folder] = os.path.realpath(folder) == folder
    return known[folder]


def _said(found: _Found) -> Iterator[str]:
    """Each file with its reason; of those with the same reason the first by name, the others by number."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in found.reasons.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        yield from (f"{readable(path)}: {reason}" for path in paths[:_NAMED])
        if len(paths) > _NAMED:
            yield f"{len(paths) - _NAMED} more files: {reason}"


def _look_up(program: Restic, package: TreePackage, words: Sequence[str], suspects: dict[str, Line]) -> _Found:
    paths = {path: tree_of(line, package.places).in_tool(path) for path, line in suspects.items()}
    known = nodes(program, words, {as_printed(path) for path in paths.values()})
    found = _Found()
    for path, line in suspects.items():
        place, entry = tree_of(line, package.places), line.entry
        node = known.get(as_printed(paths[path]))
        if node is None:
            found.entries[path], found.reasons[path] = None, _why_not(place, path)
        elif node != (entry.size, entry.mtime_ns) or changed(line, place):
            size, sha256 = _hash(program, words, paths[path])
            if sha256 != entry.sha256:
                found.entries[path] = replace(entry, size=size, mtime_ns=node[1], sha256=sha256)
                found.reasons[path] = _LATER
    return found


def _why_not(place: Place, path: str) -> str:
    if os.path.lexists(encoded(place.on_disk(path))):
        return _UNREAD
    return _GONE if place.single or os.path.lexists(encoded(place.root)) else _TREE_GONE


def as_printed(path: str) -> bytes:
    """restic prints JSON, where bytes that are not UTF-8 are lost."""
    return encoded(path).decode("utf-8", "replace").encode()


def nodes(program: Restic, words: Sequence[str], wanted: set[bytes]) -> dict[bytes, tuple[int, int]]:
    """Size and mtime of these files in the snapshot."""
    found: dict[bytes, tuple[int, int]] = {}
    with program.stream("ls", "--json", *words) as output:
        for line in output:
            said = json.loads(line)
            if said.get("type") == "file" and (path := str(said.get("path")).encode("utf-8", "replace")) in wanted:
                found[path] = (int(said.get("size", 0)), _nanoseconds(str(said.get("mtime", ""))))
    return found


def _nanoseconds(text: str) -> int:
    """A time as Go prints it, with up to nine places."""
    whole, zone = (text[:-1], "+00:00") if text.endswith("Z") else (text[:-6], text[-6:])
    seconds, _, rest = whole.partition(".")
    return int(datetime.fromisoformat(seconds + zone).timestamp()) * 10**9 + int(rest.ljust(9, "0")[:9] or 0)


def _hash(program: Restic, words: Sequence[str], path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with program.stream("dump", *words, path) as output:
        while chunk := output.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


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
            *_said(found),
        ),
    )
    return replace(package, manifest=manifest, record=record, contents=contents)


def _lines(package: TreePackage, found: _Found) -> Iterator[Line]:
    lost: set[str] = {path for path, entry in found.entries.items() if entry is None}
    for line in package.lines():
        path = line.entry.path
        if line.entry.kind == "hardlink" and line.entry.target in lost:
            found.entries[path], found.reasons[path] = None, _FIRST_GONE
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
    unread = [path for path in lost if found.reasons[path] != _GONE]
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
