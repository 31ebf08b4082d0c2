"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def size(count: int) -> str:
    """``1536`` -> ``1.5 KiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < (1024 if unit == "B" else 1023.95):  # what would round to 1024.0 is one of the next unit
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """``75.2`` -> ``1 min 15 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def moment(time: datetime) -> str:
    """A time in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def age(time: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says something."""
    seconds = (now - time).total_seconds()
    if seconds < 0:
        return "in the future"
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count != 1 else ''} ago"
    return "just now"


def verdict(word: str) -> str:
    """A drill's verdict, for who reads it at a glance."""
    return {"not proven": "NOT proven", "not comparable": "restored, and not proven: not all can be compared"}.get(
        word, word
    )
