"""What becomes known of a backup after it was written: its pin, verifications, drills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from scriptorium.model.health import Check

PROVEN, NOT_PROVEN, NOT_COMPARABLE = "proven", "not proven", "not comparable"


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of reading a copy back. ``unopened``: why only its encrypted bytes were compared, if so."""

    at: datetime
    sound: bool
    damage: tuple[str, ...] = ()
    seconds: float = 0.0
    unopened: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of a drill: a copy was restored into a scratch folder or database and compared with its manifest.

    ``seconds``: the measured time to recover. ``age_seconds``: how old the data was then.
    ``files``, ``bytes``, ``tables``, ``rows``: how much was compared.
    ``uncompared``: what was restored but could not be compared, and why.
    ``differences``: the first ones, by name.
    ``before``: the differences that a first attempt found, if there were two attempts.
    ``unkept``: why this proof was not written beside the manifest; empty if it was written.
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
        """``NOT_COMPARABLE``: it was restored, but nothing recorded shows whether it is what was saved. This is an
        argument neither for the backup nor against it."""
        if self.proven:
            return PROVEN
        return NOT_COMPARABLE if self.uncompared and not self.differences else NOT_PROVEN


@dataclass(frozen=True, slots=True)
class Annotations:
    """What becomes known of a backup after it was written; kept beside its manifest, never needed to restore."""

    pinned: bool = False
    verification: Verification | None = None
    proof: Proof | None = None
