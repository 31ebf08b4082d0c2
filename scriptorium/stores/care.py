"""What only some stores can: lock what they keep, be made ready, be examined, take backups from each other as they are.
This answers for those that cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from scriptorium import wording
from scriptorium.errors import STORE_TROUBLE, KeyMissing, ScriptoriumError
from scriptorium.model import Manifest
from scriptorium.progress import Advance
from scriptorium.stores.base import BackupStore, Lock, Package


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``good``: ``None`` where it is neither good nor bad."""

    what: str
    found: str
    good: bool | None = True
    hint: str = ""


@runtime_checkable
class Locking(Protocol):
    """A store that may keep a backup from being removed before its time."""

    def locked(self, key: str) -> Lock | None:
        """What keeps a backup from being removed; it may have ended."""
        ...


@runtime_checkable
class Initializable(Protocol):
    """A store whose place is made by hand, once."""

    def initialize(self) -> str:
        """Make the place (a bucket, a repository) where it is not there; says what was done. Doing it again changes
        nothing."""
        ...


@runtime_checkable
class Examinable(Protocol):
    """A store that can say more of itself than that it answers."""

    def examine(self, *, try_delete: bool) -> Iterator[Finding]:
        """``try_delete``: put something made for that, as backups are put, and try to remove it again."""
        ...


@runtime_checkable
class Clocked(Protocol):
    """A store that has a clock which is not this machine's."""

    def time(self) -> datetime | None:
        """What its clock says now; ``None`` if that cannot be known."""
        ...


@runtime_checkable
class Reclaiming(Protocol):
    """A store that frees the space of removed backups in a step of its own: once for many removals."""

    def reclaim(self) -> None:
        """Free the space of what was removed. ``Protected`` if nothing may be removed there now."""
        ...


@runtime_checkable
class Sealing(Protocol):
    """A store whose backups may be encrypted for a key that this host need not have."""

    def require_key(self, key: str) -> str:
        """Says which key opens a backup; nothing where none is needed. ``KeyMissing``."""
        ...


@runtime_checkable
class Transferring(Protocol):
    """A store that takes backups out of some other stores as they are, without unpacking them."""

    def takes(self, other: BackupStore, key: str, manifest: Manifest, label: str) -> bool:
        """Whether it can take this backup so, under this label."""
        ...

    def taken(
        self, other: BackupStore, key: str, manifest: Manifest, label: str, folder: Path, *, advance: Advance
    ) -> Package:
        """The backup as a package for ``put``; what is needed for that lies in ``folder``. ``DamageFound`` if it is
        not what its manifest says."""
        ...

    def needs(self, other: BackupStore, key: str, manifest: Manifest) -> int:
        """The bytes that ``taken`` needs in its folder."""
        ...


@runtime_checkable
class Enclosing(Protocol):
    """A store whose manifests may name less than the backups hold."""

    def whole_manifest(self, key: str) -> Manifest:
        """The manifest with everything in it. ``KeyMissing``, ``NotFound``, ``DamageFound``."""
        ...


def whole_manifest(store: BackupStore, key: str) -> Manifest:
    return store.whole_manifest(key) if isinstance(store, Enclosing) else store.manifest(key)


@runtime_checkable
class Resealing(Protocol):
    """A store whose recipients may have changed since a backup was put."""

    def sealed_for_others(self, key: str) -> bool:
        """Whether a backup is encrypted for others than new ones are, or not at all although they are."""
        ...


def sealed_for_others(store: BackupStore, key: str) -> bool:
    return isinstance(store, Resealing) and store.sealed_for_others(key)


def require_key(store: BackupStore, key: str) -> str:
    """Says which key opens a backup; nothing where none is needed. ``KeyMissing`` if it is not here."""
    return store.require_key(key) if isinstance(store, Sealing) else ""


def is_shut(store: BackupStore, key: str) -> bool:
    """Whether a backup cannot be looked into here, for want of its key."""
    try:
        require_key(store, key)
    except KeyMissing:
        return True
    except STORE_TROUBLE:
        return False
    return False


def lock_of(store: BackupStore, key: str, now: datetime | None = None) -> Lock | None:
    """The lock that keeps a backup from being removed now, where there is one."""
    lock = store.locked(key) if isinstance(store, Locking) else None
    return lock if lock is not None and lock.holds(now) else None


def time_of(store: BackupStore) -> datetime | None:
    """The time by the clock of a store that has one of its own."""
    return store.time() if isinstance(store, Clocked) else None


def initialize(store: BackupStore) -> str:
    return store.initialize() if isinstance(store, Initializable) else "it is made with the first backup"


def examine(store: BackupStore, *, try_delete: bool = False) -> Iterator[Finding]:
    """Whether a store answers, what it has, and what it says of itself. A trouble of it is the last finding."""
    try:
        backups = sum(1 for _ in store.list())
        used, free = store.usage()
        yield Finding("answers", f"{backups} backups, {wording.size(used)}")
        if free is not None:
            yield Finding("free", wording.size(free), free > 0)
        if isinstance(store, Examinable):
            yield from store.examine(try_delete=try_delete)
        elif try_delete:
            yield Finding("removal", "this kind of store cannot try it", None)
    except STORE_TROUBLE as error:
        yield trouble_of(error)


def trouble_of(error: ScriptoriumError) -> Finding:
    return Finding("trouble", error.exact, False, error.hint)
