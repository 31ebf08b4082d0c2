"""The nouns: frozen records that every module may hold and none may change.

Times are aware datetimes in UTC. Sizes are bytes. Paths inside an archive are ``str`` with ``/``, relative,
decoded with ``surrogateescape`` so that every byte string a filesystem allows survives the round trip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from scriptorium.words import ROLES as ROLES
from scriptorium.words import BackupType as BackupType
from scriptorium.words import Compression as Compression
from scriptorium.words import DatabaseFormat as DatabaseFormat
from scriptorium.words import ExportFormat as ExportFormat
from scriptorium.words import Role as Role
from scriptorium.words import Status as Status
from scriptorium.words import Tier as Tier
from scriptorium.words import Word as Word


@dataclass(frozen=True, slots=True)
class TableFingerprint:
    """What a table held at the snapshot. ``fingerprint`` does not depend on the order of rows."""

    rows: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A file or folder to pack.

    ``root``     where it is on disk (absolute)
    ``at``       its path in the archive (``""``: the entries of ``root`` lie at the top)
    ``include``  glob patterns, relative to ``root``; empty means everything
    ``exclude``  glob patterns, relative to ``root``; see ``archive.selection`` for their meaning
    ``never``    absolute paths that are never entered, whatever the patterns say (our own stores)
    ``optional`` a root that does not exist is no error and no warning
    """

    root: str
    at: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    optional: bool = False


class Streams(StrEnum):
    """Whether a source goes into the archive straight away, without a copy in the workspace."""

    NEVER = "never"
    WHERE_SHORT = "where the disk is short"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a source is expected to bring, for the check of free space: bytes, number of files.

    ``staged_bytes``: how much the workspace needs for its copy, where it is copied there first. ``holes``: of the
    bytes, those that take no space on the disk (sparse files).
    """

    bytes: int
    files: int
    staged_bytes: int = 0
    streams: Streams = Streams.NEVER
    holes: int = 0


# What a database answered to a statement: its rows, every value as text.
Rows = tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a library of its kind must fulfil: how many break it, and the first of them by name."""

    name: str
    good: bool
    count: int = 0
    first: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.cases()}"

    def cases(self, names: int | None = None) -> str:
        """How many there are and the first of them: at most so many ``names``, without a number all that are known."""
        if not self.count:
            return "none" if self.good else "could not be checked"
        first = self.first[:names]
        more = ", …" if self.count > len(first) else ""
        return f"{self.count:,} ({', '.join(first)}{more})"


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a part came to be, for programs; its ``method`` says it for people.

    ``adopted``   another program made it; it may hold less than its source has
    ``trusted``   it was adopted, and its code was not judged, because the user said so
    ``unopened``  a database that could not be opened when it was adopted; it is kept as plain files
    ``streamed``  it went into the archive without a copy on the disk; its dump lies there in pieces
    ``script``    its dump is SQL, for psql
    ``dumper``    the version of the pg_dump that wrote its dump, empty where it is not known
    """

    adopted: bool = False
    trusted: bool = False
    unopened: bool = False
    streamed: bool = False
    script: bool = False
    dumper: str = ""


@dataclass(frozen=True, slots=True)
class Staged:
    """One source, ready to be packed: what is known of it so far, and the trees that hold it.

    ``answers``: what the snapshot answered to the source's ``statements``, by their names. ``pending``: nothing of it
    is there yet, it is read while it is packed. ``missing_fingerprints``: as in ``Part``; the packing makes their
    warnings. ``seen``: the hashes of the files that its fingerprints were taken from, by their paths in the archive.
    Only these contents are packed.
    """

    source: str
    kind: str
    path: str
    method: str
    started_at: datetime
    finished_at: datetime
    trees: tuple[Tree, ...]
    engine_version: str | None = None
    tables: Mapping[str, TableFingerprint] | None = None
    export: str | None = None
    export_lacks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    answers: Mapping[str, Rows] = field(default_factory=dict)
    pending: bool = False
    missing_fingerprints: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    seen: Mapping[str, str] = field(default_factory=dict)


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
    """The members of the parts, in archive order: inline, or in a member when there are very many.

    ``sha256`` is the hash of the list written one entry a line (see ``manifest.entry_line``): two lists
    are equal exactly when these are.
    """

    count: int
    sha256: str
    entries: tuple[FileEntry, ...] | None
    member: str | None = None


# So many are named in a manifest of what a part could not save; all of them are counted.
MOST_UNSAVED = 1_000


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Something that exists and could not be saved: its source, its path in the archive, and why."""

    source: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """One source as it lies in the archive.

    ``missing_facts``: what of a saved database is in the archive without rows and fingerprint in ``tables``, and why:
    by the table's name, or ``""`` for the whole database. Nothing can prove it.
    ``export_lacks``: what a database has otherwise that is made from its logical export, by name.
    ``unsaved``: what of it could not be saved, the first ``MOST_UNSAVED`` by name; ``unsaved_count``: how many there
    are. ``holes``: of the bytes, those that took no space on the disk (sparse files), and will take none.
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
    def allocated(self) -> int:
        """The bytes that it takes on a disk, about."""
        return self.bytes - self.holes


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """The archive as an object in a store."""

    name: str
    bytes: int
    sha256: str
    compression: Compression
    encryption: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of a backup; docs/format.md explains every field.

    ``original_sha256``: of the file that it was adopted from; empty for all others.
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
        """What could not be saved, by name; of very many the first ones of each part."""
        return tuple(one for part in self.parts for one in part.unsaved)

    @property
    def unsaved_count(self) -> int:
        """How many could not be saved."""
        return sum(part.unsaved_count for part in self.parts)


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of reading a copy back."""

    at: datetime
    sound: bool
    damage: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of a drill: a copy was restored into a scratch place and compared with its manifest.

    ``seconds``: the measured time to recover; ``age_seconds``: how old the data was then. ``files`` to ``rows``: what
    was compared; ``uncompared``: what came back and could not be, and why. ``differences``: the first ones by name.
    ``before``: the differences that a first try found, where there were two. ``unkept``: why it is not kept beside the
    manifest; nothing where it is.
    """

    at: datetime
    store: str
    proven: bool
    seconds: float
    age_seconds: float
    files: int
    bytes: int
    tables: int
    rows: int
    checks: tuple[Check, ...] = ()
    differences: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    unkept: str = ""

    @property
    def verdict(self) -> str:
        """``NOT_COMPARABLE``: it came back, and nothing says whether it is what was saved. That speaks neither for the
        backup nor against it."""
        if self.proven:
            return PROVEN
        return NOT_COMPARABLE if self.uncompared and not self.differences else NOT_PROVEN


PROVEN, NOT_PROVEN, NOT_COMPARABLE = "proven", "not proven", "not comparable"


@dataclass(frozen=True, slots=True)
class Annotations:
    """What becomes known of a backup after it was written; kept beside its manifest, never needed to restore."""

    pinned: bool = False
    verification: Verification | None = None
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup in one store, which calls it ``key``: ``<library>/<label>``. ``drilled_at`` to ``recovery_seconds``: of
    the last drill with it, whatever it found.

    ``disputed``: the drill did not prove it, and nothing else speaks against it: its bytes are as they were written.
    """

    store: str
    key: str
    bytes: int
    status: Status
    pinned: bool = False
    verified_at: datetime | None = None
    damage: tuple[str, ...] = ()
    proven_at: datetime | None = None
    drilled_at: datetime | None = None
    verdict: str = ""
    recovery_seconds: float | None = None
    disputed: bool = False

    @property
    def library(self) -> str:
        return self.key.partition("/")[0]

    @property
    def label(self) -> str:
        """How a person meets it in its store."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Backup:
    """One point in time of a library, as the catalog lists it. ``original_sha256``: as in ``Manifest``. ``claims``: of
    one whose manifest is damaged, the ids and names by which it may be meant."""

    id: str
    name: str
    library: str
    type: BackupType
    tier: Tier
    created_at: datetime
    description: str
    bytes: int
    status: Status
    copies: tuple[Copy, ...] = ()
    parts: tuple[str, ...] = ()
    warnings: int = 0
    error: str = ""
    unrecorded: tuple[str, ...] = ()
    unsaved: int = 0
    original_sha256: str = ""
    claims: tuple[str, ...] = ()

    @property
    def last_drill(self) -> Copy | None:
        """The copy that was drilled last."""
        drilled = [(copy.drilled_at, copy) for copy in self.copies if copy.drilled_at]
        return max(drilled, key=lambda one: one[0])[1] if drilled else None

    @property
    def pinned(self) -> bool:
        return any(copy.pinned for copy in self.copies)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has the living data open. ``pid`` 0: one of another container, which has no number here."""

    pid: int
    command: str
    path: str

    def __str__(self) -> str:
        if self.pid == 0:  # its number is another one here, or none
            return f"a process in another container has {self.path} open"
        return f"process {self.pid} ({self.command}) has {self.path} open"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what is and what should be: ``verdict`` is a word of ``verify.VERDICTS``."""

    verdict: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.subject}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Health:
    """What a look at a living database found.

    ``facts``: what was looked at, in words; ``findings``: what is wrong, worst first.
    """

    facts: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not self.findings
