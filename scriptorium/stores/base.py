"""The protocol of a store of backups: everything above knows a store only by this.

A backup goes in as a **package**: what a store's **packaging** made ready in the workspace while the sources were read,
once for all stores whose packagings are equal (an archive), or just what is known of it (a store whose tool reads the
parts where they lie). The manifest is stored last: its presence is the commit. What comes back are members, with their
contents in pieces. How a store calls a backup is its **key**, ``<library>/<label>``.

``tests/contracts/test_backup_stores.py`` runs one suite on every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from scriptorium.members import Member
from scriptorium.members.sinks import Sink
from scriptorium.model import Annotations, Manifest, Verification
from scriptorium.progress import Advance
from scriptorium.words import Compression

GRACE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoreFeatures:
    """What a kind of store can do.

    ``encrypts`` what it stores · ``deduplicates``: what it has already costs nothing again · ``immutable``: what was
    put cannot be changed or removed before its time · ``remote``: it may not answer as a whole · ``partial_read``:
    reads the members that are wanted alone · ``resumes`` a put that was interrupted · ``streams``: takes parts that lie
    on no disk · ``shares``: verifies a share of one backup's contents · ``takes_over``: takes a package from the
    workspace's filesystem without a second copy of it.
    """

    encrypts: bool = False
    deduplicates: bool = False
    immutable: bool = False
    remote: bool = False
    partial_read: bool = False
    resumes: bool = False
    streams: bool = False
    shares: bool = False
    takes_over: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """The ``number``-th of ``of`` shares, from 1 on: so many runs together read everything."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True, slots=True)
class StoredBackup:
    """A backup as the listing of a store shows it; its manifest may be unreadable.

    ``label``: its name in the store, as a person meets it there. ``bytes``: what it takes. ``modified``: when its
    manifest was written. ``stamp`` changes whenever something of it does; one that was just put has none yet.
    ``contents``: whether there is more than the manifest.
    """

    key: str
    library: str
    label: str
    bytes: int
    modified: datetime
    stamp: str = ""
    contents: bool = True


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a backup from being removed: how it is called, until when; no time: until somebody lifts it."""

    mode: str
    until: datetime | None

    def holds(self, now: datetime | None = None) -> bool:
        return self.until is None or self.until > (now or datetime.now(UTC))


class Package(Protocol):
    """A backup that is ready to be put."""

    @property
    def manifest(self) -> Manifest:
        """As it will stand beside what is stored."""
        ...

    @property
    def bytes(self) -> int:
        """What ``check`` reads."""
        ...

    def check(self, *, advance: Advance | None = None) -> Verification | None:
        """Read back what was made ready and compare every hash; ``None`` where nothing is there before it is put."""
        ...


class Packager(Sink, Protocol):
    """The sink that makes a package."""

    def package(self, manifest: Manifest) -> Package:
        """What was made, once the block of the packager has ended."""
        ...


class Packaging(Protocol):
    """How backups are made ready for a store. Compared by value: stores with equal ones share one package."""

    @property
    def in_workspace(self) -> bool:
        """Whether a package takes its bytes in the workspace, too."""
        ...

    def estimate(self, bytes: int, holes: int) -> int:
        """The bytes of a copy of sources of so many bytes, ``holes`` of which take no space on their disk."""
        ...

    def adopted(self, archive: Path, manifest: Manifest) -> Package | None:
        """A package of an archive of ours that lies elsewhere; ``None`` where no archives are kept. ``manifest`` says
        what it is as a file. A store may take the file over."""
        ...

    def packager(self, folder: Path, label: str) -> AbstractContextManager[Packager]:
        """A packager that works in ``folder``, which is emptied with the run; what an earlier try left is replaced."""
        ...


class BackupStore(Protocol):
    """A place for backups. Every method raises ``StoreUnavailable`` when the place does not answer."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def features(self) -> StoreFeatures: ...

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that it fills, where it is one: never saved, never restored over, and its disk
        must have space."""
        ...

    @property
    def index_folder(self) -> Path | None:
        """Where the catalog's index of it lies, where it may lie with it."""
        ...

    def is_free(self, library: str, label: str) -> bool:
        """Whether no backup of the library has this label, whole or unfinished."""
        ...

    def packaging(self, compression: Compression) -> Packaging: ...

    def put(self, package: Package) -> StoredBackup:
        """Store a backup, its manifest last; only then is it listed. Doing it again replaces it.

        ``NoSpace``, ``DamageFound`` (it changed on its way); a backup that could not be stored whole leaves nothing
        that ``sweep`` does not find.
        """
        ...

    def list(self, library: str = "") -> Iterator[StoredBackup]:
        """Every backup, or those of one library."""
        ...

    def manifest(self, key: str) -> Manifest:
        """``NotFound``; ``DamageFound`` when it cannot be trusted; ``ToolMissing`` when a newer program wrote it."""
        ...

    def visible_damage(self, found: StoredBackup, manifest: Manifest) -> tuple[str, ...]:
        """What the listing alone shows to be wrong with a backup; nothing is read for it."""
        ...

    def annotations(self, key: str) -> Annotations:
        """What is known of the backup besides. Damaged annotations may have held a pin: they count as one."""
        ...

    def annotate(self, key: str, annotations: Annotations) -> None:
        """Replace what is known. ``NotFound`` where there is no such backup."""
        ...

    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> AbstractContextManager[Iterator[Member]]:
        """The members in the order in which they were put; a hard link comes behind its first name.

        Where the manifest does not hold its list of members itself, the list comes last, as a member of the name that
        the manifest gives. ``wanted``: nothing else needs to come (see ``partial_read``). ``advance`` is told the bytes
        that were read from the store. ``NotFound``, ``DamageFound`` at the first thing that is not as it should be.
        """
        ...

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        """Read the backup back and compare every hash, or those of a share of it (see ``shares``)."""
        ...

    def remove(self, key: str) -> None:
        """Remove a backup, its manifest first. One that is not there is no error."""
        ...

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        """Remove what puts and removals that were cut short left and nothing refers to, once it is older than the grace
        time; returns what it was, by name."""
        ...

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        """The same for what one dead run left, without a grace time. The library must be held."""
        ...

    def usage(self) -> tuple[int, int | None]:
        """(bytes that our backups take, bytes free or ``None`` where that cannot be known)."""
        ...

    def location(self, key: str) -> str:
        """Where a person finds the backup: a path or a URL without secrets."""
        ...
