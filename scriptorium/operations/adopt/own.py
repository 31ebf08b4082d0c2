"""One of our own archives that lies outside every store: taken in as it is, its manifest made from the one inside."""

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
from scriptorium.manifest import archive_name, dumps, is_archive_name, loads
from scriptorium.members.ledger import MANIFEST
from scriptorium.model import ArchiveRecord, Compression, Manifest, Verification
from scriptorium.settings import Library
from scriptorium.sources import PostgresSource
from scriptorium.sources.postgres.restore.staging import examine_unpacked
from scriptorium.stores import Store
from scriptorium.stores.objects.layout import free_name
from scriptorium.workspace import require_space

_LARGEST = 256 << 20  # bytes of a manifest
_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5": Compression.ZSTD}


def manifest_inside(file: Path) -> Manifest:
    """The manifest in an archive, completed by what the archive is as a file. ``DamageFound`` when it has none."""
    inner = None
    with file.open("rb") as stream, Reader(stream) as reader:
        for member in reader:
            if member.entry.path == MANIFEST and member.entry.size <= _LARGEST:
                inner = loads(member.contents())
        whole = reader.stream.rest()
    if inner is None:
        raise DamageFound("the archive holds no manifest: it was never finished", on=str(file))
    with file.open("rb") as stream:
        compression = _MAGIC.get(stream.read(2), Compression.NONE)
    record = ArchiveRecord(file.name, whole.bytes, whole.sha256, compression)
    return dataclasses.replace(inner, archive=record)


def named(manifest: Manifest, stores: Sequence[Store]) -> Manifest:
    """The manifest with an archive name that is ours and free in every store."""
    assert manifest.archive is not None
    kind = next((part.kind for part in manifest.parts if part.tables is not None), None)
    compression = manifest.archive.compression
    made = [archive_name(manifest.type, manifest.created_at, compression, kind, tie) for tie in (0, *range(2, 1000))]
    own = [manifest.archive.name] if is_archive_name(manifest.archive.name) else []
    for name in (*own, *made):
        if all(free_name(store, manifest.library, name) for store in stores):
            return dataclasses.replace(manifest, archive=dataclasses.replace(manifest.archive, name=name))
    raise UsageError("a thousand archives of this moment are there already", on=manifest.library)


def copied(file: Path, manifest: Manifest, folder: Path) -> tuple[Path, Verification]:
    """The archive in ``folder``, read back and sound. A store may take the file over, and the original stays its
    owner's: so it is a copy. Raises ``DamageFound``."""
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
    """Look through its dumps as through those of other programs: its hashes say nothing about who made it.
    ``UnsafeArchive``."""
    tools = {source.name: source.tools for source in library.sources if isinstance(source, PostgresSource)}
    parts = [part for part in manifest.parts if part.kind == "postgres"]
    if not parts:
        return
    require_space(folder, sum(part.bytes for part in parts), "looking through the dumps in the archive")
    examined = folder / "examined"
    examined.mkdir(mode=0o700)

    def receive(member: str) -> Path | None:
        inside = any(member == part.path or member.startswith(f"{part.path}/") for part in parts)
        return examined / member if inside else None

    with archive.open("rb") as stream:
        unpack(stream, receive, roots=[examined])
    for part in parts:
        examine_unpacked(examined / part.path, part.path, tools.get(part.source))
    remove_tree(examined)
