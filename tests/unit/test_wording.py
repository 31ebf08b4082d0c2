"""Numbers and times as people read them, at the edges where units change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from scriptorium import wording

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "count, words",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 20, "1.0 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (5 * (1 << 40), "5.0 TiB"),
        (5000 * (1 << 40), "5000.0 TiB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    assert wording.size(count) == words


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (75.2, "1 min 15 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


def test_times_are_in_utc() -> None:
    assert wording.utc(NOW) == "2026-01-02 03:04:05"
    assert wording.utc(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-01-02 03:04:05"


@pytest.mark.parametrize(
    "ago, words",
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(seconds=60), "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "59 minutes ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=47), "1 day ago"),
        (timedelta(days=400), "400 days ago"),
        (timedelta(seconds=-1), "in the future"),
    ],
)
def test_ages(ago: timedelta, words: str) -> None:
    assert wording.age(NOW - ago, NOW) == words
