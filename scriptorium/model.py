"""The nouns: frozen records that every room may hold and none may change.

Times are aware datetimes in UTC. Sizes are bytes. Paths inside an archive are ``str`` with ``/``, relative,
decoded with ``surrogateescape`` so that every byte string a filesystem allows survives the round trip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from scriptorium.errors import UsageError


class Word(StrEnum):
    """A word of the contract; ``parse`` says which ones are allowed when it meets another."""

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            return cls(text.strip().lower())
        except ValueError:
            raise UsageError(f"'{text}' is not a {cls.__name__.lower()}", hint=f"allowed: {', '.join(cls)}") from None


class BackupType(Word):
    FULL = "full"
    DATA = "data"
    DATABASE = "database"
    CONFIG = "config"

    @classmethod
    def parse(cls, text: str) -> BackupType:
        """Accept the contract's words and the historical ones (``data_only`` and friends)."""
        old = {"data_only": "data", "kuzu_only": "database", "db_only": "database", "config_only": "config"}
        word = text.strip().lower()
        try:
            return cls(old.get(word, word))
        except ValueError:
            raise UsageError(f"'{text}' is not a backup type", hint=f"allowed: {', '.join(cls)}") from None


class Tier(Word):
    MANUAL = "manual"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    BEFORE_RESTORE = "before-restore"


class Status(Word):
    RUNNING = "running"
    COMPLETE = "complete"
    VERIFIED = "verified"
    PROVEN = "proven"
    DAMAGED = "damaged"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def good(self) -> bool:
        """Whether a backup in this state can be counted on for a restore."""
        return self in (Status.COMPLETE, Status.VERIFIED, Status.PROVEN)


class Compression(Word):
    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"

    @property
    def ending(self) -> str:
        return {"gzip": ".tar.gz", "zstd": ".tar.zst", "none": ".tar"}[self.value]


class Role(StrEnum):
    """What a source is to its library; a backup type chooses sources by it."""

    DATABASE = "database"
    FILES = "files"
    CONFIG = "config"


ROLES: Mapping[BackupType, frozenset[Role]] = {
    BackupType.FULL: frozenset(Role),
    BackupType.DATA: frozenset({Role.DATABASE, Role.FILES}),
    BackupType.DATABASE: frozenset({Role.DATABASE}),
    BackupType.CONFIG: frozenset({Role.CONFIG}),
}


@dataclass(frozen=True, slots=True)
class TableFacts:
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

    ``staged_bytes``: how much the workspace needs for its copy, where it is copied there first.
    """

    bytes: int
    files: int
    staged_bytes: int = 0
    streams: Streams = Streams.NEVER


# How the method of a part begins that was taken over from another program's backup: it may be less than its source has.
ADOPTED = "adopted"
# How the method of a part ends that went into the archive without a copy on the disk: its dump lies there in pieces.
STREAMED = ", streamed"

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
class Staged:
    """One source, ready to be packed: the facts known so far and the trees that hold it.

    ``answers``: what the snapshot said to the source's ``statements``, by their names. ``streamed``: nothing of it is
    there yet, it is read while it is packed. ``missing_facts``: as in ``Part``; the packing makes their warnings.
    """

    source: str
    kind: str
    path: str
    method: str
    started_at: datetime
    finished_at: datetime
    trees: tuple[Tree, ...]
    engine_version: str | None = None
    tables: Mapping[str, TableFacts] | None = None
    export: str | None = None
    warnings: tuple[str, ...] = ()
    answers: Mapping[str, Rows] = field(default_factory=dict)
    streamed: bool = False
    missing_facts: Mapping[str, str] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class Part:
    """One source as it lies in the archive.

    ``missing_facts``: what of a saved database is in the archive without rows and fingerprint in ``tables``, and why:
    by the table's name, or ``""`` for the whole database. Nothing can prove it.
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
    tables: Mapping[str, TableFacts] | None = None
    export: str | None = None
    missing_facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """The archive as an object in a store."""

    name: str
    bytes: int
    sha256: str
    compression: Compression
    encryption: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of a backup; docs/format.md explains every field."""

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
    archive: ArchiveFacts | None
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    version: int = 1


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
    ``unkept``: why it is not kept beside the manifest; nothing where it is.
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
class Marks:
    """What becomes known of a backup after it was written; kept beside its manifest, never needed to restore."""

    pinned: bool = False
    verification: Verification | None = None
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup in one store. ``drilled_at`` to ``recovery_seconds``: of the last drill with it, whatever it found."""

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


@dataclass(frozen=True, slots=True)
class Backup:
    """One point in time of a library, as the catalog lists it."""

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
    """A process that has the living data open."""

    pid: int
    command: str
    path: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}) has {self.path} open"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what is and what should be: ``verdict`` is a word of ``verify.VERDICTS``."""

    verdict: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.subject}" + (f" ({self.detail})" if self.detail else "")
