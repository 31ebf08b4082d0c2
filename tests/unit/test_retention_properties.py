"""Retention: properties that hold for every policy and all sets of backups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from retention_series import NOW, PARIS, kept

from scriptorium.retention import Candidate, Policy, plan, removed
from scriptorium.words import BackupType, Status, Tier

_instants = st.datetimes(datetime(2022, 1, 1), datetime(2024, 3, 20), timezones=st.just(UTC)) | st.integers(0, 200).map(
    lambda hours: NOW - timedelta(hours=hours)
)
_candidates = st.lists(
    st.builds(
        Candidate,
        id=st.integers(0, 10**6).map(str),
        library=st.sampled_from(["one", "two"]),
        type=st.sampled_from([BackupType.FULL, BackupType.FULL, BackupType.DATABASE]),
        tier=st.sampled_from([Tier.DAILY, Tier.DAILY, Tier.MANUAL, Tier.BEFORE_RESTORE]),
        created_at=_instants,
        status=st.sampled_from([Status.VERIFIED] * 4 + list(Status)),
        pinned=st.sampled_from([False] * 6 + [True]),
        bytes=st.just(1),
        disputed=st.booleans(),
    ).map(lambda one: one if one.status is Status.DAMAGED else replace(one, disputed=False)),
    unique_by=lambda one: one.id,
    max_size=40,
)
_counts = st.sampled_from([0, 0, 0, 1, 2, 3, 7])
_words = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_policies = st.builds(
    Policy,
    **dict.fromkeys(_words, _counts),
    within=st.sampled_from(["", "", "3d", "1m", "2h"]),
    max_age=st.sampled_from([None, None, 1, 30]),
    max_count=st.sampled_from([None, None, 1, 5]),
    good=st.sampled_from([1, 1, 3]),
)
_zones = st.sampled_from([UTC, PARIS, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/New_York")])
_quick = settings(max_examples=150, deadline=None)


@_quick
@given(_candidates, _policies, _zones, st.randoms(use_true_random=False))
def test_every_backup_gets_one_verdict_with_a_reason_in_any_order(
    backups: list[Candidate], policy: Policy, tz: ZoneInfo, chance: object
) -> None:
    decisions = plan(backups, policy, NOW, tz=tz)
    assert sorted(decision.candidate.id for decision in decisions) == sorted(one.id for one in backups)
    assert all(decision.reasons and all(decision.reasons) for decision in decisions)
    shuffle: Callable[[list[Candidate]], None] = chance.shuffle  # type: ignore[attr-defined]
    mixed = list(backups)
    shuffle(mixed)
    assert plan(mixed, policy, NOW, tz=tz) == decisions
    assert {one.id for one in removed(decisions)} == {one.id for one in backups} - set(kept(decisions))


@_quick
@given(_candidates, _policies, _zones, st.sets(st.integers(0, 39)))
def test_nothing_protected_is_ever_removed(
    backups: list[Candidate], policy: Policy, tz: ZoneInfo, reading: set[int]
) -> None:
    busy = frozenset(one.id for place, one in enumerate(backups) if place in reading)
    gone = removed(plan(backups, policy, NOW, tz=tz, busy=busy))
    for one in gone:
        assert not one.pinned and one.id not in busy and one.status is not Status.RUNNING and one.created_at <= NOW
        assert one.tier is not Tier.BEFORE_RESTORE or NOW - one.created_at >= timedelta(days=7)
    assert not gone or not policy.empty
    for library in ("one", "two"):
        good = [one for one in backups if one.library == library and one.good and one.created_at <= NOW]
        for some in (good, [one for one in good if one.tier is not Tier.BEFORE_RESTORE]):
            for least, these in ((policy.good, some), (1, [one for one in some if one.type is BackupType.FULL])):
                newest = sorted(these, key=lambda one: (one.created_at, one.id))[-least:]
                assert not {one.id for one in newest} & {one.id for one in gone}


@_quick
@given(_candidates, _policies, _zones)
def test_planning_again_removes_nothing_more(backups: list[Candidate], policy: Policy, tz: ZoneInfo) -> None:
    left = [decision.candidate for decision in plan(backups, policy, NOW, tz=tz) if decision.keep]
    assert removed(plan(left, policy, NOW, tz=tz)) == ()


@_quick
@given(_candidates, _policies, _zones, st.sampled_from([*_words, "good", "max_age", "max_count"]), st.integers(1, 50))
def test_a_larger_number_never_keeps_less(
    backups: list[Candidate], policy: Policy, tz: ZoneInfo, word: str, more: int
) -> None:
    previous: int | None = getattr(policy, word)
    if previous is None or (previous == 0 and not policy.has_keep):
        return  # the first rule of its kind makes a policy stricter, by design
    larger = policy.model_copy(update={word: previous + more})
    assert set(kept(plan(backups, policy, NOW, tz=tz))) <= set(kept(plan(backups, larger, NOW, tz=tz)))


@_quick
@given(_candidates, st.sampled_from(_words), st.integers(1, 9), _zones)
def test_a_rule_takes_at_most_its_number_in_each_group(
    backups: list[Candidate], word: str, count: int, tz: ZoneInfo
) -> None:
    decisions = plan(backups, Policy.model_validate({word: count}), NOW, tz=tz)
    groups: dict[tuple[object, ...], list[Candidate]] = {}
    for decision in decisions:
        one = decision.candidate
        if not one.disputed and any(f"{word} snapshot" in reason for reason in decision.reasons):
            assert one.good
            groups.setdefault((one.library, one.type, one.tier is Tier.BEFORE_RESTORE), []).append(one)
    assert all(len(group) <= count for group in groups.values())


@_quick
@given(_candidates, st.integers(1, 9))
def test_max_count_leaves_at_most_that_many_good_ones(backups: list[Candidate], count: int) -> None:
    plain = [one for one in backups if one.tier is not Tier.BEFORE_RESTORE and not one.pinned and one.created_at <= NOW]
    left = [decision.candidate for decision in plan(plain, Policy(max_count=count), NOW) if decision.keep]
    for library in ("one", "two"):
        for type in (BackupType.FULL, BackupType.DATABASE):
            group = [one for one in left if one.library == library and one.type is type and one.good]
            there = [one for one in plain if one.library == library and one.type is type and one.good]
            whole = [one for one in group if one.status.whole]
            assert min(count, len(there)) <= len(group) <= min(count + 1, len(there))
            if len(group) > count:  # the newest that lacks nothing stays beside degraded ones
                assert whole == group[-1:]


@_quick
@given(_candidates, _policies, _zones)
def test_what_reads_back_as_it_was_written_goes_no_sooner_than_a_good_one(
    backups: list[Candidate], policy: Policy, tz: ZoneInfo
) -> None:
    """A drill that could not prove a backup may be wrong; no good backup may be removed because of it."""
    kept_now = set(kept(plan(backups, policy, NOW, tz=tz)))
    if_good = [replace(one, status=Status.VERIFIED) if one.disputed else one for one in backups]
    kept_if_good = set(kept(plan(if_good, policy, NOW, tz=tz)))
    if_bad = [replace(one, disputed=False) for one in backups]
    kept_if_bad = set(kept(plan(if_bad, policy, NOW, tz=tz)))
    disputed = {one.id for one in backups if one.disputed}
    assert disputed & kept_if_good <= kept_now
    assert kept_if_bad - disputed == kept_now - disputed
