"""A backup as the catalog lists it, with its copies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from scriptorium.words import BackupType, Status, Tier


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup in one store. ``key`` is its name there: ``<library>/<label>``.

    ``drilled_at``, ``verdict``, ``recovery_seconds``: of the last drill of this copy, whatever its outcome.
    ``disputed``: the drill did not prove it, but its bytes are as they were written and nothing else is wrong.
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
        """The name that a person sees in the store."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class MissingCopy:
    """A store to which a run was to put a copy, and that has none. ``reason``: empty if the run was cut short."""

    store: str
    reason: str = ""

    def __str__(self) -> str:
        return f"no copy in {self.store}: {self.reason or 'the run was cut short'}"


@dataclass(frozen=True, slots=True)
class Backup:
    """The state of a library at one time, as the catalog lists it. ``original_sha256``: as in ``Manifest``.
    ``claims``: if its manifest is damaged, the ids and names that it may have. ``missing``: what its run could not
    store."""

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
    missing: tuple[MissingCopy, ...] = ()

    @property
    def last_drill(self) -> Copy | None:
        """The copy that was drilled last."""
        drilled = [(copy.drilled_at, copy) for copy in self.copies if copy.drilled_at]
        return max(drilled, key=lambda one: one[0])[1] if drilled else None

    def copies_in(self, store: str) -> tuple[Copy, ...]:
        return tuple(copy for copy in self.copies if copy.store == store)

    @property
    def pinned(self) -> bool:
        return any(copy.pinned for copy in self.copies)
