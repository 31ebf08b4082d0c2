"""One of our own archives that lies outside every store: adopted unchanged, with the manifest that is inside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from scriptorium.archive import unpack
from scriptorium.archive.reader import Reader
from scriptorium.archive.verification import verified
from scriptorium.errors import DamageFound, UsageError
from scriptorium.fs import reflink
from scriptorium.fs.removal import remove_tree
from scriptorium.manifest import dumps, is_archive_name, label_of, loads
from scriptorium.members.ledger import MANIFEST
from scriptorium.model import ArchiveRecord, Manifest, Verification
from scriptorium.operations.copies import Prepared, free_label
from scriptorium.restore.into_folder import source_of
from scriptorium.settings import Library
from scriptorium.sources import Source
from scriptorium.sources.abilities import takes_dumps
from scriptorium.stores import BackupStore, Package, Packaging
from scriptorium.words import Compression
from scriptorium.workspace import require_space

_LARGEST = 256 << 20  # bytes of a manifest
_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5": Compression.ZSTD}


def manifest_inside(file: Path) -> Manifest:
    """The manifest in an archive, completed with name, size and hash of the archive. ``DamageFound`` if it has none."""
    inner = None
    with file.open("rb") as stream, Reader(stream) as reader:
        for member in reader:
            if member.entry.path == MANIFEST and member.entry.size <= _LARGEST:
                inner = loads(member.contents())
        whole = reader.stream.rest()
    if inner is None:
        raise DamageFound("the archive contains no manifest: it was never finished", on=str(file))
    with file.open("rb") as stream:
        compression = _MAGIC.get(stream.read(2), Compression.NONE)
    record = ArchiveRecord(file.name, whole.bytes, whole.sha256, compression)
    return dataclasses.replace(inner, archive=record)


def named(manifest: Manifest, stores: Sequence[BackupStore]) -> Manifest:
    """The manifest with an archive name that is valid and free in every store."""
    assert manifest.archive is not None
    kind = next((part.kind for part in manifest.parts if part.tables is not None), None)
    name, label = manifest.archive.name, label_of(manifest.archive.name)
    if not is_archive_name(name) or not all(store.is_free(manifest.library, label) for store in stores):
        label = free_label(stores, manifest.library, manifest.type, manifest.created_at, kind)
        name = f"{label}{manifest.archive.compression.ending}"
    return dataclasses.replace(manifest, archive=dataclasses.replace(manifest.archive, name=name))


def prepared(archive: Path, manifest: Manifest, stores: Sequence[BackupStore], compression: Compression) -> Prepared:
    """The archive as packages for the stores. ``UsageError`` for a store that keeps no archives."""
    packages: dict[Packaging, Package] = {}
    for store in stores:
        packaging = store.packaging(compression)
        package = packaging.adopted(archive, manifest)
        if package is None:
            raise UsageError("this store keeps no archives", on=store.name, hint="adopt it into another store: --to")
        packages[packaging] = package
    return Prepared(label_of(archive.name), packages)


def copied(file: Path, manifest: Manifest, folder: Path) -> tuple[Path, Verification]:
    """A copy of the archive in ``folder``, read back and sound. It is a copy because a store may move the file, and the
    original must stay. Raises ``DamageFound``."""
    assert manifest.archive is not None
    require_space(folder, manifest.archive.bytes, "the copy of the archive")
    target = folder / manifest.archive.name
    with reflink.opened(file) as source:
        reflink.copy(source, target, manifest.archive.bytes, lambda _: None)
    verification = verified(lambda: target.open("rb"), dumps(manifest), name=target.name, size=target.stat().st_size)
    if not verification.sound:
        raise DamageFound(
            "the archive is damaged", on=str(file), hint=f"{'; '.join(verification.damage[:3])}. Use another copy of it"
        )
    return target, verification


def examine(archive: Path, manifest: Manifest, library: Library, folder: Path) -> None:
    """Examine its dumps like those of other programs: its hashes do not say who made it. ``UnsafeArchive``."""
    known: dict[str, Source] = {source.name: source for source in library.sources}
    found = ((part, takes_dumps(source_of(part, known, folder))) for part in manifest.parts)
    able = {part.path: dumps for part, dumps in found if dumps is not None}
    parts = [part for part in manifest.parts if part.path in able]
    if not parts:
        return
    require_space(folder, sum(part.bytes for part in parts), "examining the dumps in the archive")
    examined = folder / "examined"
    examined.mkdir(mode=0o700)

    def receive(member: str) -> Path | None:
        inside = any(member == part.path or member.startswith(f"{part.path}/") for part in parts)
        return examined / member if inside else None

    with archive.open("rb") as stream:
        unpack(stream, receive, roots=[examined])
    for part in parts:
        able[part.path].examine_unpacked(examined / part.path, part.path)
    remove_tree(examined)
