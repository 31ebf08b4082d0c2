"""Retention: what is kept under every policy, and the reasons that are given."""

from __future__ import annotations

from datetime import timedelta

import pytest
from retention_series import NOW, backup, daily, kept, reasons

from scriptorium.retention import Candidate, Policy, plan
from scriptorium.words import BackupType, Status, Tier

# --- what is kept under every policy -----------------------------------------------------------------------------

OLD = "2020-01-01T00:00"
ONLY_LAST = {"last": 1}
PROTECTIONS: list[tuple[str, list[Candidate], frozenset[str], list[str]]] = [
    ("a pinned one", [backup("2024-03-15", id="new"), backup(OLD, id="old", pinned=True)], frozenset(), ["new", "old"]),
    ("one that is read", [backup("2024-03-15", id="new"), backup(OLD, id="old")], frozenset({"old"}), ["new", "old"]),
    (
        "a running one",
        [backup("2024-03-15", id="new"), backup(OLD, id="old", status=Status.RUNNING)],
        frozenset(),
        ["new", "old"],
    ),
    (
        "the newest good one, although newer ones are bad",
        [
            backup("2024-03-15", id="failed", status=Status.FAILED),
            backup("2024-03-14", id="damaged", status=Status.DAMAGED),
            backup(OLD, id="good"),
            backup("2019-01-01", id="superseded", status=Status.DAMAGED),
        ],
        frozenset(),
        ["failed", "damaged", "good"],
    ),
    (
        "the newest that lacks nothing of each type, although newer ones are degraded",
        [
            backup("2024-03-15", id="degraded 2", status=Status.DEGRADED),
            backup("2024-03-14", id="degraded 1", status=Status.DEGRADED),
            backup("2024-03-13", id="whole", status=Status.PROVEN),
            backup("2024-03-12", id="older whole"),
            backup("2024-03-11", id="config, degraded", type=BackupType.CONFIG, status=Status.DEGRADED),
            backup("2024-03-10", id="config, whole", type=BackupType.CONFIG),
            backup("2024-03-09", id="config, older", type=BackupType.CONFIG),
        ],
        frozenset(),
        ["degraded 2", "whole", "config, degraded", "config, whole"],
    ),
    (
        "a degraded one that is older than a whole one is one of many",
        [backup("2024-03-15", id="whole"), backup("2024-03-14", id="degraded", status=Status.DEGRADED)],
        frozenset(),
        ["whole"],
    ),
    (
        "a degraded one where there is no other, although newer ones are bad",
        [
            backup("2024-03-15", id="damaged", status=Status.DAMAGED),
            backup("2024-03-14", id="degraded", status=Status.DEGRADED),
            backup("2024-03-13", id="older degraded", status=Status.DEGRADED),
        ],
        frozenset(),
        ["damaged", "degraded"],
    ),
    (
        "the newest good full one beside a newer good one of another type",
        [
            backup("2024-03-15", id="full, damaged", status=Status.DAMAGED),
            backup("2024-03-14", id="database", type=BackupType.DATABASE),
            backup("2024-03-10", id="full"),
            backup("2024-03-09", id="older database", type=BackupType.DATABASE),
            backup("2024-03-08", id="older full"),
        ],
        frozenset(),
        ["full, damaged", "database", "full"],
    ),
    (
        "one made before a restore, for seven days",
        [
            backup("2024-03-15T11:00", id="new"),
            backup("2024-03-14", id="safety 3", tier=Tier.BEFORE_RESTORE),
            backup("2024-03-08T12:00:01", id="safety 2", tier=Tier.BEFORE_RESTORE),
            backup("2024-03-08T12:00", id="safety 1", tier=Tier.BEFORE_RESTORE),
        ],
        frozenset(),
        ["new", "safety 3", "safety 2"],
    ),
    (
        "the day's own backup, although one made before a restore is newer",
        [
            backup("2024-03-15T10:00", id="safety", tier=Tier.BEFORE_RESTORE),
            backup("2024-03-15T02:00", id="nightly"),
            backup("2024-03-14T02:00", id="older"),
        ],
        frozenset(),
        ["safety", "nightly"],
    ),
    (
        "the truly newest, although a wrong clock dated one in the future",
        [backup("2099-01-01", id="future"), backup("2024-03-15", id="new"), backup("2024-03-14", id="older")],
        frozenset(),
        ["future", "new"],
    ),
    (
        "the newest of each library and type",
        [
            backup("2024-03-15", id="config", type=BackupType.CONFIG),
            backup("2024-03-14", id="full"),
            backup("2024-03-13", id="other library", library="alexandria"),
            backup("2024-03-12", id="old config", type=BackupType.CONFIG),
            backup("2024-03-11", id="old other", library="alexandria"),
        ],
        frozenset(),
        ["config", "full", "other library"],
    ),
]


@pytest.mark.parametrize(("backups", "busy", "expected"), [pytest.param(*row, id=name) for name, *row in PROTECTIONS])
@pytest.mark.parametrize("policy", [{"last": 1}, {"daily": 1}, {"yearly": 1, "good": 1}])
def test_some_backups_are_kept_under_every_policy(
    backups: list[Candidate], busy: frozenset[str], expected: list[str], policy: dict[str, int]
) -> None:
    assert kept(plan(backups, Policy.model_validate(policy), NOW, busy=busy)) == expected


def test_a_backup_made_before_a_restore_does_not_count_for_its_day() -> None:
    """It has the state that was replaced on purpose; the nightly backup is the one that was restored."""
    nights = daily(20)
    safety = backup(nights[10].created_at + timedelta(hours=8), id="safety", tier=Tier.BEFORE_RESTORE)
    decisions = plan([*nights, safety], Policy(daily=14), NOW)
    assert [id for id in kept(decisions) if id != "safety"] == [f"{number}" for number in range(14)]


def test_a_bad_backup_never_pushes_out_a_good_one() -> None:
    days = daily(6)
    bad = [
        backup(one.created_at + timedelta(minutes=5), id=f"bad {one.id}", status=Status.DAMAGED) for one in days[1:4]
    ]
    decisions = plan([*days, *bad], Policy(daily=4), NOW)
    assert kept(decisions) == ["0", "1", "2", "3"]
    assert kept(plan([*days, *bad], Policy(max_count=4), NOW)) == ["0", "bad 1", "1", "bad 2", "2", "bad 3", "3"]


# --- the reasons --------------------------------------------------------------------------------------------------

REASONS = [
    ({"daily": 3}, "2", ("daily snapshot 3 of 3",)),
    ({"daily": 3, "last": 1}, "0", ("newest good backup of the library", "newest good full backup of the library",
                                    "last snapshot 1 of 1", "daily snapshot 1 of 3")),
    ({"daily": "unlimited"}, "7", ("daily snapshot 8",)),
    ({"daily": 3}, "3", ("no keep rule wants it",)),
    ({"daily": 3, "max_age": 5}, "6", ("older than 5 days", "no keep rule wants it")),
    ({"max_age": 1}, "7", ("older than 1 day",)),
    ({"max_count": 5}, "7", ("over the 5 newest full backups",)),
    ({"max_count": 1}, "7", ("over the 1 newest full backup",)),
    ({"max_count": 6, "max_age": 6}, "5", ("not older than 6 days", "among the 6 newest full backups")),
    ({"within": "4d"}, "2", ("within 4d of the newest",)),
    ({"good": 2}, "1", ("among the 2 newest good backups of the library", "no rule says that anything may go")),
    ({}, "1", ("no rule says that anything may go",)),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "id", "expected"), REASONS)
def test_reasons_are_in_words_for_people(policy: dict[str, int | str], id: str, expected: tuple[str, ...]) -> None:
    assert reasons(plan(daily(8), Policy.model_validate(policy), NOW), id) == expected


def test_the_reasons_of_what_is_kept_under_every_policy() -> None:
    backups = [
        backup("2099-01-01", id="future"),
        backup("2024-03-15T11:30", id="running", status=Status.RUNNING),
        backup("2024-03-15T11:00", id="damaged", status=Status.DAMAGED),
        backup("2024-03-15", id="new"),
        backup("2024-03-14", id="safety", tier=Tier.BEFORE_RESTORE),
        backup("2024-03-13", id="old", pinned=True),
        backup("2024-03-12", id="failed", status=Status.FAILED),
    ]
    decisions = plan(backups, Policy(daily=1), NOW, busy=frozenset({"old"}))
    assert reasons(decisions, "future") == ("dated in the future",)
    assert reasons(decisions, "running") == ("still running", "running, but no good full backup is newer")
    assert reasons(decisions, "damaged") == ("damaged, but no good full backup is newer",)
    assert reasons(decisions, "safety")[0] == "made before a restore, less than 7 days ago"
    assert reasons(decisions, "old") == ("pinned", "being read")
    assert reasons(decisions, "failed") == ("failed: it fills no place of a keep rule",)
