"""A store that keeps members and no archives, in memory: the code above the seam must not notice the difference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from scriptorium.errors import NotFound, StoreUnavailable
from scriptorium.fs.owners import group_name, user_name
from scriptorium.manifest import dumps, loads
from scriptorium.members import Member, listed_entries
from scriptorium.members.sinks import MemberHeader
from scriptorium.model import Annotations, FileEntry, Manifest, Staged, Verification
from scriptorium.progress import Advance
from scriptorium.stores import Package, Share, StoredBackup, StoreFeatures
from scriptorium.stores.base import GRACE
from scriptorium.words import Compression


@dataclass
class Kept:
    """One backup. Without a manifest it is not finished."""

    created_at: datetime
    members: list[tuple[MemberHeader, bytes]]
    listing: bytes | None
    manifest: bytes | None = None
    annotations: Annotations = field(default_factory=Annotations)
    written: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class TreePackage:
    label: str
    manifest: Manifest
    kept: Kept
    bytes: int = 0

    def check(self, *, advance: Advance | None = None) -> None:
        return None


class TreePackager:
    """Stores the members as they are read."""

    def __init__(self, label: str) -> None:
        self._label, self._members, self._listing = label, list[tuple[MemberHeader, bytes]](), b""
        self._contents = bytearray()

    wants_contents = True

    def begin(self, draft: Manifest, staged: Sequence[Staged]) -> None:
        assert not draft.parts

    def member(self, header: MemberHeader) -> None:
        self._header, self._contents = header, bytearray()

    def space(self) -> None:
        return None

    def filled(self, count: int) -> None:
        raise AssertionError("no space was offered")

    def write(self, data: memoryview) -> None:
        self._contents += data

    def end(self, entry: FileEntry) -> None:
        assert len(self._contents) == entry.size
        self._members.append((self._header, bytes(self._contents)))

    def finish(self, manifest: Manifest, listing: Path | None) -> None:
        self._listing = listing.read_bytes() if listing else b""

    def package(self, manifest: Manifest) -> TreePackage:
        listing = self._listing if manifest.files.member else None
        return TreePackage(self._label, manifest, Kept(manifest.created_at, self._members, listing))


@dataclass(frozen=True)
class TreePackaging:
    @property
    def in_workspace(self) -> bool:
        return False

    def estimate(self, bytes: int, holes: int) -> int:
        return bytes - holes

    def adopted(self, archive: Path, manifest: Manifest) -> None:
        return None

    @contextmanager
    def packager(self, folder: Path, label: str) -> Iterator[TreePackager]:
        yield TreePackager(label)


class TreeStore(BaseModel):
    """``place``: stores of the same place have the same backups, however often the settings are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["tree"] = "tree"
    name: str = "tree"
    place: str = "somewhere"

    places: ClassVar[dict[str, dict[str, Kept]]] = {}
    broken: ClassVar[set[str]] = set()
    features: ClassVar[StoreFeatures] = StoreFeatures(remote=True, partial_read=True, streams=True, shares=True)
    folder: ClassVar[None] = None
    index_folder: ClassVar[None] = None

    @property
    def kept(self) -> dict[str, Kept]:
        if self.place in self.broken:
            raise StoreUnavailable("the store does not answer: it is broken", on=self.place)
        return self.places.setdefault(self.place, {})

    def _finished(self, key: str) -> Kept:
        found = self.kept.get(key)
        if found is None or found.manifest is None:
            raise NotFound("there is no such backup", on=key)
        return found

    def is_free(self, library: str, label: str) -> bool:
        return f"{library}/{label}" not in self.kept

    def packaging(self, compression: Compression) -> TreePackaging:
        return TreePackaging()

    def put(self, package: Package) -> StoredBackup:
        assert isinstance(package, TreePackage)
        key = f"{package.manifest.library}/{package.label}"
        self.kept[key] = Kept(package.kept.created_at, list(package.kept.members), package.kept.listing)
        self.kept[key].manifest = dumps(package.manifest)
        return self._stored(key)

    def _stored(self, key: str) -> StoredBackup:
        kept = self.kept[key]
        library, _, label = key.partition("/")
        stamp = hashlib.sha256(repr((kept.manifest, kept.annotations, kept.written)).encode()).hexdigest()
        size = sum(len(contents) for _, contents in kept.members)
        return StoredBackup(key, library, label, size, kept.written, stamp)

    def list(self, library: str = "") -> Iterator[StoredBackup]:
        for key in sorted(self.kept):
            if self.kept[key].manifest is not None and library in ("", key.partition("/")[0]):
                yield self._stored(key)

    def manifest(self, key: str) -> Manifest:
        return loads(self._finished(key).manifest or b"")

    def visible_damage(self, found: StoredBackup, manifest: Manifest) -> tuple[str, ...]:
        return ()

    def annotations(self, key: str) -> Annotations:
        return self.kept[key].annotations if key in self.kept else Annotations()

    def annotate(self, key: str, annotations: Annotations) -> None:
        self._finished(key).annotations = annotations

    @contextmanager
    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> Iterator[Iterator[Member]]:
        kept = self._finished(key)

        def each() -> Iterator[Member]:
            for header, contents in kept.members:
                if wanted is None or wanted(header.entry.path):
                    yield _member(header, contents)
                    if advance is not None:
                        advance(len(contents))
            if kept.listing is not None:
                listed = FileEntry(loads(kept.manifest or b"").files.member or "", "file", len(kept.listing), 0o600, 0)
                yield _member(MemberHeader(listed, 0, 0), kept.listing)

        yield each()

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        manifest = self.manifest(key)
        recorded = {entry.path: entry.sha256 for entry in listed_entries(lambda: self.members(key), manifest.files)}
        damage = []
        for number, (header, contents) in enumerate(self._finished(key).members):
            if share is not None and number % share.of != share.number - 1:
                continue
            path = header.entry.path
            if header.entry.kind == "file" and hashlib.sha256(contents).hexdigest() != recorded.get(path):
                damage.append(f"altered member: {path}")
        return Verification(datetime.now(UTC).replace(microsecond=0), not damage, tuple(damage))

    def remove(self, key: str) -> None:
        self.kept.pop(key, None)

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        gone = [key for key, kept in self.kept.items() if kept.manifest is None and now - kept.written > grace]
        for key in () if dry_run else gone:
            self.remove(key)
        return tuple(gone)

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        gone = [
            key
            for key, kept in self.kept.items()
            if kept.manifest is None and key.startswith(f"{library}/") and kept.created_at == created_at
        ]
        for key in gone:
            self.remove(key)
        return tuple(gone)

    def usage(self) -> tuple[int, int | None]:
        return sum(self._stored(key).bytes for key in self.kept), None

    def location(self, key: str) -> str:
        return f"tree:{self.place}/{key}"


def _member(header: MemberHeader, contents: bytes) -> Member:
    kept = {name: value for name, value in header.attributes.items() if name.startswith("user.")}
    pieces = iter([memoryview(contents)] if contents else [])
    return Member(header.entry, header.uid, header.gid, user_name(header.uid), group_name(header.gid), kept, {}, pieces)
