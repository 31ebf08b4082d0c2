"""An archive in the workspace: written, read back, and ready to be put. Imported only where one is written or read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from scriptorium.archive.encryption import Keys
from scriptorium.archive.verification import verified
from scriptorium.archive.writer import ArchiveWriter, listed_apart
from scriptorium.errors import DamageFound
from scriptorium.fs.atomic import forget_cached
from scriptorium.manifest import dumps, without_names
from scriptorium.model import ArchiveRecord, Manifest, Verification
from scriptorium.progress import Advance
from scriptorium.words import Compression


@dataclass(frozen=True, slots=True)
class ArchivePackage:
    """An archive in the workspace, with its manifest. ``keys``: what opens it, if it is encrypted; ``hides_names``:
    the manifest that will lie beside it names no files."""

    file: Path
    manifest: Manifest
    keys: Keys | None = None
    hides_names: bool = False

    @property
    def beside(self) -> Manifest:
        """The manifest as it will lie beside the archive."""
        return without_names(listed_apart(self.manifest)) if self.hides_names else self.manifest

    @property
    def record(self) -> ArchiveRecord:
        if self.manifest.archive is None:
            raise DamageFound("this manifest describes no archive", on=self.manifest.name)
        return self.manifest.archive

    @property
    def bytes(self) -> int:
        return self.record.bytes

    def check(self, *, advance: Advance | None = None) -> Verification:
        forget_cached(self.file)
        size = self.file.stat().st_size
        return verified(
            lambda: self.file.open("rb"),
            dumps(self.beside),
            name=self.file.name,
            size=size,
            keys=self.keys,
            advance=advance,
        )


class ArchivePackager(ArchiveWriter):
    """The writer of an archive as the maker of a package."""

    def __init__(
        self,
        target: Path,
        compression: Compression,
        spool: Path,
        *,
        keys: Keys | None = None,
        hides_names: bool = False,
    ) -> None:
        super().__init__(target, compression, spool, recipients=keys.recipients if keys else (), apart=hides_names)
        self._keys = keys
        self._hides_names = hides_names

    def package(self, manifest: Manifest) -> ArchivePackage:
        assert self.record is not None, "the block of the packager has not ended"
        whole = dataclasses.replace(manifest, archive=self.record)
        return ArchivePackage(self.target, whole, self._keys, self._hides_names)
