"""Cron lines, as Prefect reads them. They are checked when the settings are read, without Prefect."""

from __future__ import annotations

import re

_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = dict(
    zip(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], range(1, 13), strict=True)
)
_WEEKDAYS = dict(zip(["sun", "mon", "tue", "wed", "thu", "fri", "sat"], range(7), strict=True))
# The name of a field, its least and greatest number, and the words that it may have.
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _WEEKDAYS),
)
_TERM = re.compile(r"(?P<first>\*|[a-z]{3}|[0-9]{1,2})(?:-(?P<last>[a-z]{3}|[0-9]{1,2}))?(?:/(?P<step>[0-9]{1,2}))?")
_NTH = re.compile(r"(?P<day>[a-z]{3}|[0-9])#[1-5]")
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def cron_line(text: str) -> str:
    """The line with its five fields; ``ValueError`` names the field that is wrong."""
    if len(text) > 200:
        raise ValueError("a cron line has at most 200 characters")
    line = _WORDS.get(text.strip().lower(), text)
    words = line.split()
    if len(words) != len(_FIELDS):
        raise ValueError('a cron line has five fields (minute hour day month weekday), like "0 2 * * *", or is @daily')
    values = [_values(word.lower(), *field) for word, field in zip(words, _FIELDS, strict=True)]
    days, months, _ = values[2:]
    if words[4] in ("*", "?") and days and not any(day <= _DAYS[month - 1] for day in days for month in months):
        raise ValueError("no month of this cron line has such a day: it would never run")
    return " ".join(words)


def _values(word: str, what: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    """The numbers that a field means; empty for the last day of the month."""
    if word == "?" and what.startswith("day"):
        return set(range(least, most + 1))
    if word == "l" and what == "day of the month":
        return set()
    found: set[int] = set()
    for term in word.split(","):
        nth = _NTH.fullmatch(term) if what == "day of the week" else None
        match = _TERM.fullmatch(term)
        if nth is not None:
            found.add(_number(nth["day"], what, least, most, names))
            continue
        if match is None or (match["first"] == "*" and match["last"]):
            raise ValueError(f"the {what} of this cron line is wrong")
        found |= _range(match, what, least, most, names)
    return found


def _range(match: re.Match[str], what: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    step = int(match["step"] or 1)
    if step == 0:
        raise ValueError(f"the step of the {what} of this cron line is 0")
    if match["first"] == "*":
        first, last = least, most
    else:
        first = _number(match["first"], what, least, most, names)
        last = _number(match["last"], what, least, most, names) if match["last"] else most if match["step"] else first
    if first <= last:
        return set(range(first, last + 1, step))
    return set([*range(first, most + 1), *range(least, last + 1)][::step])  # 22-2: over midnight


def _number(text: str, what: str, least: int, most: int, names: dict[str, int]) -> int:
    number = names.get(text, -1) if text.isalpha() else int(text)
    if not least <= number <= most:
        raise ValueError(f"the {what} of this cron line is not between {least} and {most}")
    return number
