"""The protocol of a store of backups: everything above knows a store only by this.

A backup is stored as a **package**. A store's **packaging** prepares it in the workspace while the sources are read:
one archive for all stores whose packagings are equal, or only a description (for a store whose tool reads the parts in
place). The manifest is stored last: its presence is the commit. A store returns members, with their contents in
pieces. The name of a backup in a store is its **key**, ``<library>/<label>``.

``tests/contracts/test_backup_stores.py`` runs one suite on every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from scriptorium import wording
from scriptorium.members import Member
from scriptorium.members.sinks import Sink
from scriptorium.model import Annotations, Manifest, Verification
from scriptorium.progress import Advance
from scriptorium.words import Compression

GRACE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoreFeatures:
    """What a kind of store can do.

    ``encrypts``: it encrypts what it stores · ``deduplicates``: equal contents are stored once · ``immutable``: no
    backup can be changed or removed before its time · ``remote``: it may be unreachable as a whole · ``partial_read``:
    it reads only the members that are wanted · ``resumes``: it continues a put that was interrupted · ``streams``: it
    takes parts that are on no disk · ``shares``: it verifies a share of a backup's contents · ``takes_over``: it takes
    a package from the workspace's filesystem without a second copy · ``contents_only``: owners, modes, links and empty
    folders are in its record alone, and a restore sets them.
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
    contents_only: bool = False


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

    ``label``: its name in the store, as people see it there. ``bytes``: what it takes. ``modified``: when its
    manifest was written. ``stamp`` changes whenever something of it does; one that was just put has none yet.
    ``contents``: whether there is more than the manifest. ``verification``: of one that was just put, if the put has
    read back what arrived.
    """

    key: str
    library: str
    label: str
    bytes: int
    modified: datetime
    stamp: str = ""
    contents: bool = True
    verification: Verification | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a backup from being removed: how it is called, until when; no time: until somebody lifts it."""

    mode: str
    until: datetime | None

    def __str__(self) -> str:
        return (
            f"until {wording.utc(self.until)} UTC ({self.mode})" if self.until else f"until its {self.mode} is lifted"
        )

    def holds(self, now: datetime | None = None) -> bool:
        return self.until is None or self.until > (now or datetime.now(UTC))


class Package(Protocol):
    """A backup that is ready to be put."""

    @property
    def manifest(self) -> Manifest:
        """The manifest as it will be stored."""
        ...

    @property
    def bytes(self) -> int:
        """What ``check`` reads."""
        ...

    def check(self, *, advance: Advance | None = None) -> Verification | None:
        """Read the package back and compare every hash; ``None`` if nothing exists before it is put."""
        ...


class Packager(Sink, Protocol):
    """The sink that makes a package."""

    def package(self, manifest: Manifest) -> Package:
        """The package, after the block of the packager has ended."""
        ...


class Packaging(Protocol):
    """How backups are made ready for a store. Compared by value: stores with equal ones share one package."""

    @property
    def in_workspace(self) -> bool:
        """Whether a package also needs its bytes in the workspace."""
        ...

    def estimate(self, bytes: int, holes: int) -> int:
        """The bytes of a copy of sources of so many bytes, ``holes`` of which take no space on their disk."""
        ...

    def adopted(self, archive: Path, manifest: Manifest) -> Package | None:
        """A package of an archive of ours that lies elsewhere; ``None`` if the store keeps no archives. ``manifest``
        has its size and hash as a file. A store may take the file over."""
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
        """The damage of a backup that the listing alone shows, without reading anything."""
        ...

    def annotations(self, key: str) -> Annotations:
        """What became known of the backup later. Damaged annotations may have held a pin: they count as pinned."""
        ...

    def annotate(self, key: str, annotations: Annotations) -> None:
        """Replace the annotations. ``NotFound`` if there is no such backup."""
        ...

    def members(
        self, key: str, wanted: Callable[[str], bool] | None = None, *, advance: Advance | None = None
    ) -> AbstractContextManager[Iterator[Member]]:
        """The members in the order in which they were put; a hard link comes behind its first name.

        Where the manifest does not hold its list of members itself, the list comes last, as a member of the name that
        the manifest gives. ``wanted``: nothing else needs to come (see ``partial_read``). ``advance`` gets the number
        of bytes read from the store. ``NotFound``, ``DamageFound`` at the first error.
        """
        ...

    def verify(self, key: str, *, share: Share | None = None, advance: Advance | None = None) -> Verification:
        """Read the backup back and compare every hash, or those of a share of it (see ``shares``)."""
        ...

    def remove(self, key: str) -> None:
        """Remove a backup, its manifest first. A missing backup is no error. Its space may be freed later (see
        ``care.Reclaiming``). ``Protected`` if the store keeps it."""
        ...

    def sweep(self, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False) -> tuple[str, ...]:
        """Remove what puts and removals that were cut short left and nothing refers to, once it is older than the grace
        time; returns what it was, by name."""
        ...

    def discard_unfinished(self, library: str, created_at: datetime) -> tuple[str, ...]:
        """The same for what one dead run left, without a grace time. The library must be held."""
        ...

    def usage(self) -> tuple[int, int | None]:
        """(bytes that our backups take, bytes free or ``None`` if that cannot be known)."""
        ...

    def location(self, key: str) -> str:
        """Where a person finds the backup: a path or a URL without secrets."""
        ...
