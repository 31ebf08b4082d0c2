"""The status of a copy and of a backup, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scriptorium.catalog.status import Judgement, judge_copy, status_of
from scriptorium.model import Annotations, Copy, Proof, Verification
from scriptorium.words import Status

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SOUND = Verification(NOW, sound=True)
UNSOUND = Verification(NOW, sound=False, damage=("a.txt: other bytes",))
PROVEN = Proof(NOW, "local", proven=True, seconds=1, age_seconds=1, files=1, bytes=1, tables=0, rows=0)
UNPROVEN = replace(PROVEN, proven=False, differences=("a.txt: missing",))
UNCOMPARED = replace(PROVEN, proven=False, uncompared=("table Book: no fingerprint",))
MISSING = ("the archive is missing",)

COMPLETE = Judgement(Status.COMPLETE)
VERIFIED = Judgement(Status.VERIFIED)
DEGRADED = Judgement(Status.DEGRADED)
READ_DAMAGED = Judgement(Status.DAMAGED, UNSOUND.damage)
SEEN_DAMAGED = Judgement(Status.DAMAGED, MISSING)
DISPUTED = Judgement(Status.DAMAGED, UNPROVEN.differences, disputed=True)

# verification, proof, how many were not saved, what the listing shows -> judgement
CASES: list[tuple[Verification | None, Proof | None, int, tuple[str, ...], Judgement]] = [
    (None, None, 0, (), COMPLETE),
    (SOUND, None, 0, (), VERIFIED),
    (UNSOUND, None, 0, (), READ_DAMAGED),
    (None, PROVEN, 0, (), Judgement(Status.PROVEN)),
    (SOUND, PROVEN, 0, (), Judgement(Status.PROVEN)),
    (UNSOUND, PROVEN, 0, (), READ_DAMAGED),
    (None, UNPROVEN, 0, (), DISPUTED),
    (SOUND, UNPROVEN, 0, (), DISPUTED),
    (UNSOUND, UNPROVEN, 0, (), READ_DAMAGED),
    (None, UNCOMPARED, 0, (), COMPLETE),
    (SOUND, UNCOMPARED, 0, (), VERIFIED),
    (None, None, 3, (), DEGRADED),
    (SOUND, None, 3, (), DEGRADED),
    (SOUND, PROVEN, 3, (), DEGRADED),
    (SOUND, UNCOMPARED, 3, (), DEGRADED),
    (SOUND, UNPROVEN, 3, (), DISPUTED),
    (UNSOUND, None, 3, (), READ_DAMAGED),
    (SOUND, PROVEN, 0, MISSING, SEEN_DAMAGED),
    (UNSOUND, UNPROVEN, 3, MISSING, SEEN_DAMAGED),
]


@pytest.mark.parametrize(("verification", "proof", "unsaved", "seen", "expected"), CASES)
def test_a_copy(
    verification: Verification | None, proof: Proof | None, unsaved: int, seen: tuple[str, ...], expected: Judgement
) -> None:
    annotations = Annotations(verification=verification, proof=proof)
    assert judge_copy(annotations, unsaved=unsaved, visible_damage=seen) == expected


@pytest.mark.parametrize("pinned", [True, False])
def test_a_pin_does_not_change_the_status(pinned: bool) -> None:
    assert judge_copy(Annotations(pinned=pinned, verification=SOUND), unsaved=0) == VERIFIED


def test_a_backup_is_as_good_as_its_best_copy() -> None:
    worst_first = (Status.DAMAGED, Status.DEGRADED, Status.COMPLETE, Status.VERIFIED, Status.PROVEN)
    copies = [Copy(f"s{number}", "l/b", 1, status) for number, status in enumerate(worst_first)]
    for number, status in enumerate(worst_first, start=1):
        assert status_of(copies[:number]) is status
        assert status_of(reversed(copies[:number])) is status
