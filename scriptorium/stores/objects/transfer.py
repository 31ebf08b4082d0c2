"""An archive on its way from one store of archives to another: byte by byte, without unpacking it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from scriptorium.archive.encryption import Keys
from scriptorium.errors import DamageFound
from scriptorium.fs.atomic import beside, new_file
from scriptorium.manifest import label_of
from scriptorium.model import Manifest
from scriptorium.progress import Advance
from scriptorium.stores.objects.archive_package import ArchivePackage
from scriptorium.stores.objects.base import ObjectStore
from scriptorium.stores.objects.encryption import Age

_MIB = 1 << 20
_HINT = "use another copy of this backup"


def fits(manifest: Manifest, age: Age | None) -> bool:
    """Whether an archive is already as a store with this encryption keeps it. Its compression does not matter."""
    if manifest.archive is None:
        return False
    wanted: Sequence[str] = age.recipients if age is not None else ()
    if set(manifest.archive.recipients) != set(wanted):
        return False
    return age is None or age.names == "readable" or manifest.files.entries is None


def needs(source: ObjectStore, manifest: Manifest) -> int:
    """The bytes that the archive needs in the workspace: one on this machine is read where it lies."""
    assert manifest.archive is not None
    return manifest.archive.bytes if source.folder is None else 0


def fetched(
    source: ObjectStore,
    key: str,
    manifest: Manifest,
    label: str,
    folder: Path,
    keys: Keys | None,
    advance: Advance,
    *,
    hides_names: bool,
) -> ArchivePackage:
    """The archive as a package for the target. ``DamageFound`` if it is not what its manifest says."""
    record = manifest.archive
    assert record is not None
    name = label + record.name[len(label_of(record.name)) :]
    whole = dataclasses.replace(manifest, archive=dataclasses.replace(record, name=name))
    file = folder / name
    if source.folder is not None:
        file.symlink_to(source.folder / key)  # no store takes a link over: two copies would be one file
        return ArchivePackage(file, whole, keys, hides_names)
    digest, size = hashlib.sha256(), 0
    with source.open(key) as stream, beside(file) as partial, new_file(partial) as out:
        while chunk := stream.read(_MIB):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            advance(len(chunk))
    if (size, digest.hexdigest()) != (record.bytes, record.sha256):
        raise DamageFound("the archive is not what its manifest says", on=source.location(key), hint=_HINT)
    return ArchivePackage(file, whole, keys, hides_names)
