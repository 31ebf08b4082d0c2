"""An archive in the workspace: written, read back, and ready to be put. Imported only where one is written or read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from scriptorium.archive.verification import verified
from scriptorium.archive.writer import ArchiveWriter
from scriptorium.errors import DamageFound
from scriptorium.fs.atomic import forget_cached
from scriptorium.manifest import dumps
from scriptorium.model import ArchiveRecord, Manifest, Verification
from scriptorium.progress import Advance


@dataclass(frozen=True, slots=True)
class ArchivePackage:
    """An archive in the workspace, with the manifest that will lie beside it."""

    file: Path
    manifest: Manifest

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
            lambda: self.file.open("rb"), dumps(self.manifest), name=self.file.name, size=size, advance=advance
        )


class ArchivePackager(ArchiveWriter):
    """The writer of an archive as the maker of a package."""

    def package(self, manifest: Manifest) -> ArchivePackage:
        assert self.record is not None, "the block of the packager has not ended"
        return ArchivePackage(self.target, dataclasses.replace(manifest, archive=self.record))
