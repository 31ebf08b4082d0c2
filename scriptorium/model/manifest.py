"""A backup as it was written: its manifest, its parts, the members of its archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from scriptorium.model.health import Check
from scriptorium.words import BackupType, Compression, Tier

# A manifest names at most this many things that a part could not save. All of them are counted.
MOST_UNSAVED = 1_000
PLAIN_FILES = "files"  # the kind of a part that is no database, as every manifest since version 1 records it


@dataclass(frozen=True, slots=True)
class TableFingerprint:
    """What a table held at the snapshot. ``fingerprint`` does not depend on the order of rows."""

    rows: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a part was made, for programs; its ``method`` is the same for people.

    ``adopted``   another program made it; it may hold less than its source has
    ``trusted``   it was adopted and its code was not examined, because the user asked for that
    ``unopened``  a database that could not be opened when it was adopted; it is kept as plain files
    ``streamed``  it went into the archive without a copy on the disk; its dump is there in pieces
    ``script``    its dump is SQL, for psql
    ``dumper``    the version of the pg_dump that wrote its dump; empty if it is not known
    ``extensions``  the extensions that its dump makes, as far as they are known
    """

    adopted: bool = False
    trusted: bool = False
    unopened: bool = False
    streamed: bool = False
    script: bool = False
    dumper: str = ""
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One member of an archive. ``kind``: file, folder, symlink or hardlink (``target`` for the last two)."""

    path: str
    kind: str
    size: int
    mode: int
    mtime_ns: int
    sha256: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class FileList:
    """The members of the parts, in archive order: inline, or in a member of their own if there are very many.

    ``sha256`` is the hash of the list written one entry a line (see ``manifest.entries``): two lists
    are equal exactly when these hashes are equal.
    """

    count: int
    sha256: str
    entries: tuple[FileEntry, ...] | None
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Something that exists and could not be saved: its source, its path in the archive, and why."""

    source: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """One source as it is in the archive.

    ``missing_fingerprints``: what of a saved database is in the archive without rows and fingerprint in ``tables``,
    and why: by the table's name, or ``""`` for the whole database. No drill can prove it.
    ``export_lacks``: how a database made from the logical export differs from the saved one, by name.
    ``unsaved``: what could not be saved, the first ``MOST_UNSAVED`` by name; ``unsaved_count``: how many there are.
    ``holes``: how many of the bytes took no space on the disk (sparse files), and will take none when restored.
    """

    source: str
    kind: str
    path: str
    bytes: int
    files: int
    started_at: datetime
    finished_at: datetime
    method: str
    engine_version: str | None = None
    tables: Mapping[str, TableFingerprint] | None = None
    export: str | None = None
    export_lacks: tuple[str, ...] = ()
    missing_fingerprints: Mapping[str, str] = field(default_factory=dict)
    unsaved: tuple[Unsaved, ...] = ()
    unsaved_count: int = 0
    holes: int = 0
    provenance: Provenance = Provenance()

    @property
    def plain_files(self) -> bool:
        """Whether it is files as they were, without a database whose tables could be compared."""
        return self.kind == PLAIN_FILES

    @property
    def allocated(self) -> int:
        """The bytes that it takes on a disk, about."""
        return self.bytes - self.holes


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A place in an archive at which reading may begin: a member begins there, and nothing before is needed.

    ``member``: how many members of the parts come before it. ``offset``: where it is in the tar stream; ``at``: where
    its bytes begin in the archive.
    """

    member: int
    offset: int
    at: int


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """The archive as an object in a store. ``encryption``: ``age`` and the recipients, with spaces between them.

    ``index``: where reading may begin, in the order of the archive; empty if only at its first byte.
    """

    name: str
    bytes: int
    sha256: str
    compression: Compression
    encryption: str | None = None
    index: tuple[EntryPoint, ...] = ()

    @property
    def recipients(self) -> tuple[str, ...]:
        """For whom it is encrypted."""
        return tuple((self.encryption or "").split()[1:])


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of a backup; docs/format.md explains every field.

    ``original_sha256``: the hash of the file from which it was adopted; empty for all others.
    """

    id: str
    library: str
    preset: str | None
    type: BackupType
    tier: Tier
    name: str
    description: str
    created_at: datetime
    finished_at: datetime
    host: str
    scriptorium_version: str
    tools: Mapping[str, str]
    parts: tuple[Part, ...]
    files: FileList
    archive: ArchiveRecord | None
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    version: int = 1
    original_sha256: str = ""

    @property
    def unsaved(self) -> tuple[Unsaved, ...]:
        """What could not be saved, by name; of very many, the first ones of each part."""
        return tuple(one for part in self.parts for one in part.unsaved)

    @property
    def unsaved_count(self) -> int:
        """How many could not be saved."""
        return sum(part.unsaved_count for part in self.parts)
