"""Backups as archives in an object store: ``<library>/<archive>``, its manifest and its annotations beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from scriptorium.errors import DamageFound, NotFound, SettingsError, ToolMissing, UsageError
from scriptorium.manifest import is_archive_name, loads, manifest_key
from scriptorium.members import Member
from scriptorium.members.ledger import LIST, MANIFEST, OWN
from scriptorium.model import Annotations, Manifest, Verification
from scriptorium.progress import Advance, step
from scriptorium.stores.base import GRACE, BackupStore, Package, Share, StoredBackup, StoreFeatures
from scriptorium.stores.care import Finding
from scriptorium.stores.objects import layout
from scriptorium.stores.objects.base import ObjectStore
from scriptorium.stores.objects.encryption import ENDING, Age
from scriptorium.words import Compression

if TYPE_CHECKING:
    from scriptorium.archive.encryption import Keys
    from scriptorium.stores.objects.archive_package import ArchivePackage, ArchivePackager

log = logging.getLogger(__name__)

# What writes and reads archives is imported where it is used: a command that only lists loads none of it.
_SILENT = OWN - {LIST}  # our own members, which nobody asks for


@dataclass(frozen=True, slots=True)
class ArchivePackaging:
    """One archive for every store of archives that encrypts for the same recipients, or not at all."""

    compression: Compression
    age: Age | None = None

    @property
    def in_workspace(self) -> bool:
        return True

    def estimate(self, bytes: int, holes: int) -> int:
        """The uncompressed size: a library of books hardly shrinks. Only an uncompressed archive has holes as zeros."""
        return bytes if self.compression is Compression.NONE else bytes - holes

    def adopted(self, archive: Path, manifest: Manifest) -> ArchivePackage:
        from scriptorium.stores.objects.archive_package import ArchivePackage

        if self.age is not None and manifest.archive is not None and manifest.archive.encryption is None:
            raise UsageError(
                "this store keeps encrypted archives alone, and this one is not encrypted",
                on=archive.name,
                hint="adopt it into another store: --to",
            )
        return ArchivePackage(archive, manifest)

    def packager(self, folder: Path, label: str) -> ArchivePackager:
        from scriptorium.stores.objects.archive_package import ArchivePackager

        if self.age is None:
            return ArchivePackager(folder / f"{label}{self.compression.ending}", self.compression, folder)
        place = folder / f"age-{hashlib.sha256(repr(self.age).encode()).hexdigest()[:16]}"
        place.mkdir(mode=0o700, exist_ok=True)  # another store may encrypt the same for others
        return ArchivePackager(
            place / f"{label}{self.compression.ending}{ENDING}",
            self.compression,
            place,
            keys=self.age.keys_for(),
            hides_names=self.age.names == "encrypted",
        )


class ArchiveStore(BaseModel):
    """The common part of all stores of archives; each kind defines where its ``objects`` are. ``age``: how they are
    encrypted, if they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    age: Age | None = None

    @property
    def objects(self) -> ObjectStore:
        raise NotImplementedError

    @property
    def features(self) -> StoreFeatures:
        here = self.objects.folder is not None
        return StoreFeatures(
            encrypts=self.age is not None,
            remote=not here,
            partial_read=self.age is None,
            streams=True,
            takes_over=self.objects.takes_over,
        )

    @property
    def folder(self) -> Path | None:
        return self.objects.folder

    @property
    def index_folder(self) -> Path | None:
        return self.objects.folder

    def objects_for(self, manifest: Manifest) -> ObjectStore:
        """Where the archive and the manifest of a backup are put."""
        return self.objects

    def is_free(self, library: str, label: str) -> bool:
        names = (info.key.rpartition("/")[2] for info in self.objects.list(layout.key_of(library, f"{label}.")))
        return not any(is_archive_name(name.removesuffix(layout.MANIFEST)) for name in names)

    def packaging(self, compression: Compression) -> ArchivePackaging:
        if self.age is not None:
            from scriptorium.archive.encryption import check_recipients

            check_recipients(self.age.recipients)
        return ArchivePackaging(compression, self.age)

    def put(self, package: Package) -> StoredBackup:
        from scriptorium.stores.objects.archive_package import ArchivePackage

        if not isinstance(package, ArchivePackage):
            raise UsageError("this store keeps archives alone", on=self.objects.name)
        with step("sending", package.file.name, expected=package.record.bytes) as advance:
            key = layout.commit(self.objects_for(package.manifest), package.file, package.beside, advance=advance)
        library, _, label = key.partition("/")
        return StoredBackup(key, library, label, package.record.bytes, datetime.now(UTC))

    def list(self, library: str = "") -> Iterator[StoredBackup]:
        return map(self._stored, layout.stored(self.objects, library))

    def _stored(self, found: layout.Stored) -> StoredBackup:
        library, _, label = found.key.partition("/")
        size = found.archive.size if found.archive else 0
        there = found.archive is not None
        return StoredBackup(found.key, library, label, size, found.manifest.modified, found.stamp, contents=there)

    def manifest(self, key: str) -> Manifest:
        return layout.read_manifest(self.objects, key)

    def enclosed_manifest(self, key: str) -> Manifest:
        """The manifest inside the archive, for when the one beside it is lost. ``NotFound``,
        ``DamageFound``."""
        from scriptorium.archive.reader import extract_member

        log.info("%s: the manifest inside the archive is read", self.location(key))
        with self.objects.open(key) as stream:
            return loads(extract_member(stream, MANIFEST, self._keys(None)))

    def whole_manifest(self, key: str) -> Manifest:
        """The one inside an encrypted archive, if the one beside it may lack names; see ``stores.care``."""
        beside = self.manifest(key)
        if not key.endswith(ENDING) or beside.files.entries is not None:
            return beside
        return dataclasses.replace(self.enclosed_manifest(key), archive=beside.archive)

    def sealed_for_others(self, key: str) -> bool:
        from scriptorium.stores.objects.transfer import fits

        return not fits(self.manifest(key), self.age)

    def takes(self, other: BackupStore, key: str, manifest: Manifest, label: str) -> bool:
        from scriptorium.stores.objects.transfer import fits

        return isinstance(other, ArchiveStore) and fits(manifest, self.age)

    def needs(self, other: BackupStore, key: str, manifest: Manifest) -> int:
        from scriptorium.stores.objects.transfer import needs

        assert isinstance(other, ArchiveStore)
        return needs(other.objects, manifest)

    def taken(
        self, other: BackupStore, key: str, manifest: Manifest, label: str, folder: Path, *, advance: Advance
    ) -> ArchivePackage:
        from scriptorium.stores.objects.transfer import fetched

        assert isinstance(other, ArchiveStore)
        keys = self._keys(manifest) if key.endswith(ENDING) else None
        if keys is not None and not keys.fit:
            keys = other._keys(manifest)
        hides = self.age is not None and self.age.names == "encrypted"
        return fetched(other.objects, key, manifest, label, folder, keys, advance, hides_names=hides)

    def require_key(self, key: str) -> str:
        keys = self._keys_of(key)
        if keys is None:
            return ""
        keys.require(self.location(key))
        return f"the key for {', '.join(keys.recipients)} is here" if keys.recipients else "a key is here"

    def _keys(self, manifest: Manifest | None) -> Keys:
        from scriptorium.archive.encryption import Keys

        recipients = manifest.archive.recipients if manifest is not None and manifest.archive is not None else ()
        return self.age.keys_for(recipients) if self.age is not None else Keys(recipients=recipients)

    def _keys_of(self, key: str) -> Keys | None:
        """What opens a backup, if it is encrypted."""
        if not key.endswith(ENDING):
            return None
        return self._keys(self._readable_manifest(key))

    def _about_keys(self) -> Iterator[Finding]:
        """What is to be said of the encryption, for ``examine``."""
        if self.age is None:
            return
        from scriptorium.archive.encryption import check_recipients

        try:
            check_recipients(self.age.recipients)
            yield Finding("encrypted for", ", ".join(self.age.recipients))
            keys = self.age.keys_for()
            fits = keys.fit
        except SettingsError as error:
            yield Finding("encryption", error.exact, False, error.hint)
            return
        if fits:
            yield Finding("key", "the key is here")
        elif self.age.identity is None:
            yield Finding("key", "this host has no key: it can write and verify, not look inside", None)
        else:
            yield Finding("key", keys.trouble or "the key here is not that of a recipient", False)

    def visible_damage(self, found: StoredBackup, manifest: Manifest) -> tuple[str, ...]:
        if not found.contents:
            return ("the archive is missing",)
        if manifest.archive is not None and found.bytes != manifest.archive.bytes:
            return (f"the archive has {found.bytes} bytes instead of {manifest.archive.bytes}",)
        return ()

    def annotations(self, key: str) -> Annotations:
        return layout.read_annotations(self.objects, key)

    def annotate(self, key: str, annotations: Annotations) -> None:
        if not any(info.key == manifest_key(key) for info in self.objects.list(manifest_key(key))):
            try:
                self.objects.read_bytes(manifest_key(key))  # some servers list late what was just put
            except NotFound:
                raise NotFound("there is no such backup", on=self.location(key)) from None
        layout.write_annotations(self.objects, key, annotations)

    @contextmanager
    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> Iterator[Iterator[Member]]:
        from scriptorium.archive.choosing import chosen_members

        manifest = self._readable_manifest(key) if wanted is not None and self.features.partial_read else None
        if wanted is None or manifest is None:
            with self._all_members(key, advance) as found:
                yield found
            return
        open_range = partial(self.objects.open_range, key)
        with chosen_members(open_range, manifest, wanted, advance=advance) as chosen:
            if chosen is not None:
                yield chosen
                return
        log.info("%s is read whole", self.location(key))
        with self._all_members(key, advance) as found:
            yield (one for one in found if one.entry.path == manifest.files.member or wanted(one.entry.path))

    @contextmanager
    def _all_members(self, key: str, advance: Advance | None) -> Iterator[Iterator[Member]]:
        from scriptorium.archive.reader import Reader
        from scriptorium.archive.unpacking import reported

        keys = self._keys_of(key)
        with self.objects.open(key) as stream, Reader(stream, keys=keys) as reader:
            yield (member for member in reported(reader, advance) if member.entry.path not in _SILENT)

    def _readable_manifest(self, key: str) -> Manifest | None:
        try:
            return self.manifest(key)
        except (NotFound, DamageFound, ToolMissing):
            return None

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        from scriptorium.archive.verification import verified

        try:
            manifest = self.objects.read_bytes(manifest_key(key))
        except NotFound:
            manifest = None
        name = key.rpartition("/")[2]
        keys = self._keys_of(key)
        return verified(lambda: self.objects.open(key), manifest, name=name, keys=keys, advance=advance)

    def remove(self, key: str) -> None:
        layout.remove(self.objects, key)

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        return tuple(info.key for info in layout.sweep(self.objects, now, grace=grace, dry_run=dry_run))

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        return tuple(info.key for info in layout.discard_unfinished(self.objects, library, created_at))

    def usage(self) -> tuple[int, int | None]:
        return layout.used(self.objects), self.objects.usage()[1]

    def location(self, key: str) -> str:
        return self.objects.location(key)
