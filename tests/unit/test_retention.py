"""Retention: a table of cases for the rules, the calendar and the limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from retention_series import NOW, PARIS, backup, daily, kept

from scriptorium.model import Backup, Copy
from scriptorium.retention import UNLIMITED, Candidate, Policy, plan
from scriptorium.words import BackupType, Status, Tier

# --- restic's words -----------------------------------------------------------------------------------------------

SUNDAYS = [datetime(2019, 9, 1, 11, tzinfo=UTC) + timedelta(weeks=week) for week in range(12)]

# Which of a series are kept. Every backup is named by its time; ``reference`` is the rule of restic's manual.
WORDS = [
    pytest.param(
        [instant.isoformat() for instant in SUNDAYS],
        {"daily": 4},
        [instant.isoformat() for instant in reversed(SUNDAYS[-4:])],
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


@pytest.mark.parametrize(("instants", "policy", "expected"), WORDS)
def test_the_keep_words_mean_what_they_mean_to_restic(
    instants: list[str], policy: dict[str, int | str], expected: list[str] | None
) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    decisions = plan([backup(instant, id=instant) for instant in instants], Policy.model_validate(policy), now)
    assert kept(decisions) == (instants if expected is None else expected)


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


@pytest.mark.parametrize(("instants", "policy", "tz", "expected"), ZONES)
def test_the_calendar_is_that_of_the_time_zone(
    instants: list[str], policy: dict[str, int | str], tz: ZoneInfo, expected: list[int]
) -> None:
    decisions = plan(
        [backup(instant, id=instant) for instant in instants],
        Policy.model_validate(policy),
        datetime(2025, 1, 1, tzinfo=UTC),
        tz=tz,
    )
    assert kept(decisions) == [instants[position] for position in expected]


def test_years_of_nightly_backups_thin_out() -> None:
    """The example of restic's manual with 100 years of nights, here with eight: the rules overlap."""
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
    pytest.param({"good": 3}, "01234567", id="nor does one that only has a number of good ones"),
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
