"""What status a copy and a backup have: the one place where that is decided. Pure.

A copy is judged by what its store's listing shows, by its annotations (the last verification, the last drill), and by
its manifest, which says whether the backup lacks something that was to be saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scriptorium.model import NOT_COMPARABLE, Annotations, Copy
from scriptorium.words import Status

_BEST_FIRST = (Status.PROVEN, Status.VERIFIED, Status.COMPLETE, Status.DEGRADED, Status.DAMAGED)


@dataclass(frozen=True, slots=True)
class Judgement:
    """``damage``: what is wrong with the copy. ``disputed``: as in ``Copy``."""

    status: Status
    damage: tuple[str, ...] = ()
    disputed: bool = False


def judge_copy(annotations: Annotations, *, unsaved: int, visible_damage: tuple[str, ...] = ()) -> Judgement:
    """The status of one copy. ``unsaved``: how many files and tables could not be saved; ``visible_damage``: what the
    listing of its store alone shows to be wrong."""
    read = _read(visible_damage, annotations)
    found = _drilled(read, annotations)
    if unsaved and found.status.whole:  # a verification cannot find what was not saved
        return Judgement(Status.DEGRADED, found.damage, found.disputed)
    return found


def _read(visible_damage: tuple[str, ...], annotations: Annotations) -> Judgement:
    """What the listing and the last verification say."""
    if visible_damage:
        return Judgement(Status.DAMAGED, visible_damage)
    if annotations.verification is None:
        return Judgement(Status.COMPLETE)
    if not annotations.verification.sound:
        return Judgement(Status.DAMAGED, annotations.verification.damage)
    return Judgement(Status.VERIFIED)


def _drilled(read: Judgement, annotations: Annotations) -> Judgement:
    """Take the last drill into account: it proves more than a verification. It has no effect if the copy is damaged, or
    if the restored data could not be compared."""
    proof = annotations.proof
    if proof is None or not read.status.good or proof.verdict == NOT_COMPARABLE:
        return read
    return Judgement(Status.PROVEN) if proof.proven else Judgement(Status.DAMAGED, proof.differences, disputed=True)


def preference(status: Status) -> int:
    """The place of a copy's status in the order from the best to the worst."""
    return _BEST_FIRST.index(status)


def status_of(copies: Iterable[Copy]) -> Status:
    """The status of a backup: that of its best copy."""
    return min((copy.status for copy in copies), key=preference)
