"""Retention: a table of cases for what the words mean, properties for what must hold whatever the policy says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from scriptorium.model import Backup, BackupType, Copy, Status, Tier
from scriptorium.retention import UNLIMITED, Candidate, Decision, Policy, plan, removed

NOW = datetime(2024, 3, 15, 12, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")


def backup(
    when: str | datetime,
    *,
    id: str = "",
    library: str = "bibliotheca",
    type: BackupType = BackupType.FULL,
    tier: Tier = Tier.DAILY,
    status: Status = Status.VERIFIED,
    pinned: bool = False,
) -> Candidate:
    moment = when if isinstance(when, datetime) else datetime.fromisoformat(when)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Candidate(id or moment.isoformat(), library, type, tier, moment, status, pinned, 1000)


def daily(count: int, *, newest: datetime = NOW, step: timedelta = timedelta(days=1)) -> list[Candidate]:
    return [backup(newest - number * step, id=f"{number}") for number in range(count)]


def kept(decisions: tuple[Decision, ...]) -> list[str]:
    return [decision.candidate.id for decision in decisions if decision.keep]


def reasons(decisions: tuple[Decision, ...], id: str) -> tuple[str, ...]:
    return next(decision.reasons for decision in decisions if decision.candidate.id == id)


# --- restic's words -----------------------------------------------------------------------------------------------

SUNDAYS = [datetime(2019, 9, 1, 11, tzinfo=UTC) + timedelta(weeks=week) for week in range(12)]

# Which of a series stay. Every backup is named by its moment; ``reference`` is what the words say in restic's manual.
WORDS = [
    pytest.param(
        [moment.isoformat() for moment in SUNDAYS],
        {"daily": 4},
        [moment.isoformat() for moment in reversed(SUNDAYS[-4:])],
        id="days that have none do not count (restic's own example)",
    ),
    pytest.param(
        ["2024-03-14T23:59", "2024-03-14T08:00", "2024-03-13T23:00", "2024-03-13T22:00", "2024-03-12T10:00"],
        {"daily": 2},
        ["2024-03-14T23:59", "2024-03-13T23:00"],
        id="the newest of each day",
    ),
    pytest.param(
        ["2024-03-14T10:59", "2024-03-14T10:00", "2024-03-14T09:59", "2024-03-14T08:30"],
        {"hourly": 2},
        ["2024-03-14T10:59", "2024-03-14T09:59"],
        id="hours go from :00 to :59",
    ),
    pytest.param(
        ["2024-03-11T00:00", "2024-03-10T23:59", "2024-03-04T00:00", "2024-03-03T23:59"],
        {"weekly": 2},
        ["2024-03-11T00:00", "2024-03-10T23:59"],
        id="weeks begin on Monday",
    ),
    pytest.param(
        ["2024-12-31T10:00", "2024-12-30T10:00", "2024-12-29T10:00", "2024-12-20T10:00"],
        {"weekly": 2},
        ["2024-12-31T10:00", "2024-12-29T10:00"],
        id="the last days of 2024 are in the first ISO week of 2025",
    ),
    pytest.param(
        ["2021-01-03T10:00", "2020-12-28T10:00", "2020-12-27T10:00", "2020-12-26T10:00"],
        {"weekly": 2},
        ["2021-01-03T10:00", "2020-12-27T10:00"],
        id="3 January 2021 is in week 53 of 2020",
    ),
    pytest.param(
        ["2024-03-14T10:00", "2023-03-16T10:00", "2023-03-15T10:00"],
        {"weekly": 2},
        ["2024-03-14T10:00", "2023-03-16T10:00"],
        id="week 11 of another year is another week",
    ),
    pytest.param(
        ["2024-03-01T00:00", "2024-02-29T23:59", "2024-02-28T23:59", "2024-01-31T12:00", "2024-01-30T12:00"],
        {"monthly": 2},
        ["2024-03-01T00:00", "2024-02-29T23:59"],
        id="29 February is the newest of its month",
    ),
    pytest.param(
        ["2024-03-01T01:00", "2024-02-29T01:00", "2024-02-28T01:00", "2024-02-27T01:00"],
        {"daily": 3},
        ["2024-03-01T01:00", "2024-02-29T01:00", "2024-02-28T01:00"],
        id="29 February is a day",
    ),
    pytest.param(
        ["2024-01-01T00:00", "2023-12-31T23:59", "2023-06-01T00:00", "2022-12-31T00:00", "2022-01-01T00:00"],
        {"yearly": 2},
        ["2024-01-01T00:00", "2023-12-31T23:59"],
        id="years",
    ),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-14T09:00", "2024-03-14T08:00"],
        {"last": 2},
        ["2024-03-14T10:00", "2024-03-14T09:00"],
        id="last",
    ),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-13T10:00", "2024-03-13T09:00", "2024-03-13T08:00"],
        {"daily": 3},
        ["2024-03-14T10:00", "2024-03-13T10:00", "2024-03-13T08:00"],
        id="while there are places, the oldest gets one",
    ),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-13T10:00", "2024-03-13T08:00"],
        {"daily": 2},
        ["2024-03-14T10:00", "2024-03-13T10:00"],
        id="without places left, the oldest goes",
    ),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-14T09:00", "2024-03-13T10:00", "2024-02-01T10:00"],
        {"last": 2, "daily": 1, "monthly": 2},
        ["2024-03-14T10:00", "2024-03-14T09:00", "2024-02-01T10:00"],
        id="a backup that any rule wants stays",
    ),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-12T10:01", "2024-03-12T10:00", "2024-03-11T10:00"],
        {"within": "2d"},
        ["2024-03-14T10:00", "2024-03-12T10:01"],
        id="within: newer than so much before the newest",
    ),
    pytest.param(
        ["2023-03-31T10:00", "2023-03-03T10:01", "2023-03-03T10:00", "2023-02-28T10:00"],
        {"within": "1m"},
        ["2023-03-31T10:00", "2023-03-03T10:01"],
        id="within: a month before 31 March is 31 February, which is 3 March",
    ),
    pytest.param(
        ["2024-02-29T10:00", "2023-03-01T10:01", "2023-03-01T10:00"],
        {"within": "1y"},
        ["2024-02-29T10:00", "2023-03-01T10:01"],
        id="within: a year before 29 February is 1 March",
    ),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-13T07:01", "2024-03-13T07:00"],
        {"within": "1d3h"},
        ["2024-03-14T10:00", "2024-03-13T07:01"],
        id="within: days and hours",
    ),
    pytest.param(["2024-03-14T10:00", "0005-01-01T00:00"], {"within": "9999y"}, None, id="within: longer than time"),
    pytest.param(["2024-03-14T10:00", "2001-03-13T10:00"], {"daily": "unlimited"}, None, id="unlimited keeps all days"),
    pytest.param(["2024-03-14T10:00", "2001-03-13T10:00"], {"daily": -1}, None, id="-1 is unlimited, as for restic"),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-13T10:00"], {"daily": 0, "last": 1}, ["2024-03-14T10:00"], id="0 is none"
    ),
    pytest.param(
        ["2024-03-14T10:00", "2024-03-13T10:00"], {"daily": 0, "within": "0d"}, None, id="nothing but noughts"
    ),
]


@pytest.mark.parametrize(("moments", "policy", "expected"), WORDS)
def test_the_keep_words_mean_what_they_mean_to_restic(
    moments: list[str], policy: dict[str, int | str], expected: list[str] | None
) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    decisions = plan([backup(moment, id=moment) for moment in moments], Policy.model_validate(policy), now)
    assert kept(decisions) == (moments if expected is None else expected)


ZONES = [
    pytest.param(["2024-03-10T23:30", "2024-03-10T22:30"], {"daily": 9}, UTC, [0, 1], id="one day in UTC, and oldest"),
    pytest.param(["2024-03-10T23:30", "2024-03-10T22:30", "2024-03-09T12:00"], {"daily": 2}, UTC, [0, 2], id="in UTC"),
    pytest.param(
        ["2024-03-10T23:30", "2024-03-10T22:30", "2024-03-09T12:00"],
        {"daily": 2},
        PARIS,
        [0, 1],
        id="midnight in Paris",
    ),
    pytest.param(  # 31 March 2024, 01:00 UTC: the clock goes from 02:00 to 03:00
        ["2024-03-31T01:30", "2024-03-31T00:30", "2024-03-30T23:30"], {"hourly": 3}, PARIS, [0, 1, 2], id="skipped hour"
    ),
    pytest.param(
        ["2024-03-31T21:59", "2024-03-30T23:00", "2024-03-30T22:59", "2024-03-29T23:00"],
        {"daily": 2},
        PARIS,
        [0, 2],
        id="the day of 23 hours",
    ),
    pytest.param(  # 27 October 2024, 01:00 UTC: the clock goes from 03:00 back to 02:00
        ["2024-10-27T01:30", "2024-10-27T00:45", "2024-10-26T23:30", "2024-10-26T22:30"],
        {"hourly": 2},
        PARIS,
        [0, 2],
        id="the hour that is shown twice is one hour",
    ),
    pytest.param(
        ["2024-10-27T22:59", "2024-10-26T22:00", "2024-10-26T21:59", "2024-10-25T23:00"],
        {"daily": 2},
        PARIS,
        [0, 2],
        id="the day of 25 hours",
    ),
    pytest.param(
        ["2024-10-27T11:00", "2024-10-26T10:01", "2024-10-26T10:00"],
        {"within": "1d"},
        PARIS,
        [0, 1],
        id="within a day of 25 hours: the same time of the day before",
    ),
    pytest.param(["2024-10-27T11:00", "2024-10-26T10:30"], {"within": "1d"}, UTC, [0], id="within a day, in UTC"),
    pytest.param(
        ["2024-10-27T11:00", "2024-10-26T11:01", "2024-10-26T10:59"],
        {"within": "24h"},
        PARIS,
        [0, 1],
        id="within 24 hours",
    ),
]


@pytest.mark.parametrize(("moments", "policy", "tz", "expected"), ZONES)
def test_the_calendar_is_that_of_the_time_zone(
    moments: list[str], policy: dict[str, int | str], tz: ZoneInfo, expected: list[int]
) -> None:
    decisions = plan(
        [backup(moment, id=moment) for moment in moments],
        Policy.model_validate(policy),
        datetime(2025, 1, 1, tzinfo=UTC),
        tz=tz,
    )
    assert kept(decisions) == [moments[position] for position in expected]


def test_years_of_nightly_backups_thin_out() -> None:
    """What restic's manual works out for 100 years of nights, here for eight: the rules overlap."""
    nights = daily(8 * 365, newest=datetime(2024, 3, 15, 2, tzinfo=UTC))
    decisions = plan(nights, Policy(daily=7, weekly=5, monthly=12, yearly=75), NOW)
    days = [decision.candidate.created_at.date().isoformat() for decision in decisions if decision.keep]
    assert days[:7] == [
        "2024-03-15",
        "2024-03-14",
        "2024-03-13",
        "2024-03-12",
        "2024-03-11",
        "2024-03-10",
        "2024-03-09",
    ]
    assert days[7:10] == ["2024-03-03", "2024-02-29", "2024-02-25"]
    assert "2023-02-28" not in days and "2023-04-30" in days  # twelve months back from March
    assert [day for day in days if day < "2023-04"] == [
        *(f"{year}-12-31" for year in range(2022, 2016, -1)),
        *(["2016-12-31"]),
        "2016-03-18",  # the oldest, because the years have places left
    ]


# --- the limits ---------------------------------------------------------------------------------------------------

LIMITS = [
    pytest.param({}, "01234567", id="an empty policy removes nothing"),
    pytest.param({"good": 3}, "01234567", id="nor does one that only says how many good ones stay"),
    pytest.param({"max_age": 3}, "0123", id="max_age; exactly so old is not older"),
    pytest.param({"max_count": 2}, "01", id="max_count"),
    pytest.param({"max_age": 5, "max_count": 3}, "012", id="either limit lets go"),
    pytest.param({"max_age": 1, "good": 4}, "0123", id="good ones stay although they are old"),
    pytest.param({"max_age": 2, "last": 4}, "0123", id="a keep rule wins over max_age"),
    pytest.param({"max_count": 2, "last": 4}, "0123", id="a keep rule wins over max_count"),
    pytest.param({"max_age": 4, "last": 2}, "01234", id="with limits, what no rule wants may stay until it is too old"),
]


@pytest.mark.parametrize(("policy", "expected"), LIMITS)
def test_limits_and_keep_rules_together(policy: dict[str, int], expected: str) -> None:
    assert "".join(kept(plan(daily(8), Policy.model_validate(policy), NOW))) == expected


# --- what stays whatever the policy says --------------------------------------------------------------------------

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
def test_some_stay_whatever_the_policy_says(
    backups: list[Candidate], busy: frozenset[str], expected: list[str], policy: dict[str, int]
) -> None:
    assert kept(plan(backups, Policy.model_validate(policy), NOW, busy=busy)) == expected


def test_one_made_before_a_restore_does_not_stand_for_its_day() -> None:
    """It holds the state that somebody wanted to be rid of; the night's own is what was restored from."""
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


def test_reasons_of_what_stays_whatever_the_policy_says() -> None:
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


# --- the policy as a settings section -----------------------------------------------------------------------------


def test_a_policy_is_a_settings_section() -> None:
    policy = Policy.model_validate({"daily": 7, "yearly": "unlimited", "within": "2y5m7d3h"})
    assert (policy.daily, policy.yearly, policy.within) == (7, UNLIMITED, "2y5m7d3h")
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert Policy().empty and not policy.empty and policy.has_keep and not Policy(max_age=3).has_keep


@pytest.mark.parametrize(
    "wrong",
    [{"dayly": 7}, {"daily": -2}, {"daily": "many"}, {"within": "1w"}, {"within": "d"}, {"within": "3"}, {"max_age": 0},
     {"max_count": 0}, {"good": 0}],
)  # fmt: skip
def test_a_wrong_policy_is_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(wrong)


def test_a_candidate_is_made_of_a_backup() -> None:
    copy = Copy("local", "b/full.tar.gz", 42, Status.VERIFIED, pinned=True)
    one = Backup(
        "0123456789ab", "n", "bibliotheca", BackupType.DATA, Tier.WEEKLY, NOW, "", 42, Status.VERIFIED, (copy,)
    )
    expected = backup(
        NOW, id="0123456789ab", type=BackupType.DATA, tier=Tier.WEEKLY, status=Status.VERIFIED, pinned=True
    )
    assert Candidate.of(one) == Candidate(**{**{f: getattr(expected, f) for f in expected.__slots__}, "bytes": 42})


# --- properties ---------------------------------------------------------------------------------------------------

_moments = st.datetimes(datetime(2022, 1, 1), datetime(2024, 3, 20), timezones=st.just(UTC)) | st.integers(0, 200).map(
    lambda hours: NOW - timedelta(hours=hours)
)
_candidates = st.lists(
    st.builds(
        Candidate,
        id=st.integers(0, 10**6).map(str),
        library=st.sampled_from(["one", "two"]),
        type=st.sampled_from([BackupType.FULL, BackupType.FULL, BackupType.DATABASE]),
        tier=st.sampled_from([Tier.DAILY, Tier.DAILY, Tier.MANUAL, Tier.BEFORE_RESTORE]),
        created_at=_moments,
        status=st.sampled_from([Status.VERIFIED] * 4 + list(Status)),
        pinned=st.sampled_from([False] * 6 + [True]),
        bytes=st.just(1),
    ),
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
    former: int | None = getattr(policy, word)
    if former is None or (former == 0 and not policy.has_keep):
        return  # the first rule of its kind makes a policy stricter, by design
    larger = policy.model_copy(update={word: former + more})
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
        if any(f"{word} snapshot" in reason for reason in decision.reasons):
            assert one.good
            groups.setdefault((one.library, one.type, one.tier is Tier.BEFORE_RESTORE), []).append(one)
    assert all(len(group) <= count for group in groups.values())


@_quick
@given(_candidates, st.integers(1, 9))
def test_max_count_leaves_no_more_good_ones_than_it_says(backups: list[Candidate], count: int) -> None:
    plain = [one for one in backups if one.tier is not Tier.BEFORE_RESTORE and not one.pinned and one.created_at <= NOW]
    left = [decision.candidate for decision in plan(plain, Policy(max_count=count), NOW) if decision.keep]
    for library in ("one", "two"):
        for type in (BackupType.FULL, BackupType.DATABASE):
            group = [one for one in left if one.library == library and one.type is type and one.good]
            there = [one for one in plain if one.library == library and one.type is type and one.good]
            assert len(group) == min(count, len(there))
