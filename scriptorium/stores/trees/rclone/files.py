"""Files of a backup in a remote: what is there, sent there, and returned from there. Their names are stored names."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scriptorium.errors import DamageFound, NotFound
from scriptorium.fs.removal import remove_tree
from scriptorium.members.selection import encoded
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.rclone.layout import CONTENTS, RENAMED, Entry, listed
from scriptorium.stores.trees.rclone.program import Rclone
from scriptorium.stores.trees.record import Line, Place

KEPT = ("sha256", "sha1", "md5")  # the hashes of a remote that say something, best first
_SENT_WHOLE = 4 << 20  # bytes: a larger file may be sent to a bucket in pieces, and its hash is the sender's own


@dataclass(frozen=True, slots=True)
class Stored:
    """The folder of one backup. ``renamed``: members that are stored under other names."""

    program: Rclone
    library: str
    label: str
    renamed: Mapping[str, str]

    def name(self, path: str) -> str:
        """The name of a member below the folder."""
        return self.renamed.get(path) or f"{CONTENTS}/{path}"

    def at(self, *path: str) -> str:
        return self.program.at(self.library, self.label, *path)

    @property
    def hash(self) -> str:
        """The hash that the remote gives for its files; none where it gives none of use."""
        known = self.program.abilities.hashes
        return next((one for one in KEPT if one in known), "")

    def entries(self, *, hashes: bool) -> dict[str, Entry]:
        """What is there, by name."""
        kind = self.hash if hashes else ""
        words = ("--hash", f"--hash-type={kind}") if kind else ()
        found: dict[str, Entry] = {}
        only = [f"--include=/{folder}/**" for folder in (CONTENTS, RENAMED)]
        for one in listed(self.program, self.at(), "--files-only", "--no-modtime", "--fast-list", *only, *words):
            found[one.path] = one
        return found

    def computed(self, size: int) -> bool:
        """Whether the remote's hash of a file of this size was computed from what arrived there."""
        abilities = self.program.abilities
        return abilities.computes or not abilities.bucket or size <= _SENT_WHOLE

    def stream(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return self.program.stream("cat", self.at(name))

    @contextmanager
    def fetched(self, names: Iterable[str], within: Path | None = None) -> Iterator[Path]:
        """Some files in a folder, at their names; it is removed with the block. What is missing or damaged there is
        missing."""
        folder = Path(tempfile.mkdtemp(prefix=".rclone-", dir=within))
        try:
            listing = folder / "names"
            listing.write_bytes(b"".join(encoded(name) + b"\n" for name in names))
            with contextlib.suppress(NotFound, DamageFound):
                self.program.transfer("copy", f"--files-from-raw={listing}", self.at(), str(folder / "files"))
            yield folder / "files"
        finally:
            remove_tree(folder)


@dataclass(frozen=True, slots=True)
class Returned:
    """Files that are read back after they were sent; see ``stores.trees.arrival``."""

    stored: Stored
    folder: Path | None

    def stream(self, line: Line) -> AbstractContextManager[IO[bytes]]:
        return self.stored.stream(self.stored.name(line.entry.path))

    @contextmanager
    def files(self, lines: Sequence[Line]) -> Iterator[Mapping[str, str]]:
        names = {line.entry.path: self.stored.name(line.entry.path) for line in lines}
        with self.stored.fetched(names.values(), self.folder) as folder:
            yield {path: f"{folder}/{name}" for path, name in names.items()}


class Lookup:
    """What the remote keeps of single files; see ``stores.trees.corrections``."""

    def __init__(self, stored: Stored, entries: Mapping[str, Entry]) -> None:
        self._stored, self._entries = stored, entries

    @property
    def tool(self) -> str:
        return "rclone"

    def nodes(self, files: Mapping[str, tuple[Place, Line]]) -> Mapping[str, Node]:
        found: dict[str, Node] = {}
        for path, (place, line) in files.items():
            entry = self._entries.get(self._stored.name(path))
            if entry is not None:
                found[path] = Node(entry.size, _mtime(place, line))
        return found

    def digest(self, place: Place, line: Line) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        with self._stored.stream(self._stored.name(line.entry.path)) as output:
            while chunk := output.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
        return size, digest.hexdigest()


def _mtime(place: Place, line: Line) -> int:
    """Not every remote keeps times: what the disk says is what was sent."""
    try:
        return os.lstat(encoded(place.on_disk(line.entry.path))).st_mtime_ns
    except OSError:
        return line.entry.mtime_ns


@dataclass(frozen=True, slots=True)
class Sums:
    """The hashes of a file on this disk, of one reading."""

    sha256: str
    other: str


def sums_of(file: str, kind: str) -> Sums | None:
    """SHA-256, and the hash that a remote gives; ``None`` if the file cannot be read."""
    digests = [hashlib.sha256(), hashlib.new(kind, usedforsecurity=False)]
    try:
        with open(encoded(file), "rb") as stream:  # noqa: PTH123 -- bytes
            for chunk in iter(functools.partial(stream.read, 1 << 20), b""):
                for digest in digests:
                    digest.update(chunk)
    except OSError:
        return None
    return Sums(digests[0].hexdigest(), digests[1].hexdigest())
