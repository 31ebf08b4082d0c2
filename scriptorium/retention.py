"""Which backups stay: ``plan(backups, policy, now)`` decides, and gives reasons. It reads no clock and no disk.

The ``keep`` words mean what they mean to restic (https://restic.readthedocs.io/en/stable/060_forget.html): each
takes the newest backup of a calendar hour, day, ISO week, month or year, for the n most recent ones *that have
one*. A backup that any rule wants is kept. While a rule has places left, the oldest backup gets one. Hours are those of
local time, so the hour that daylight saving repeats is one hour.

Rules are applied to groups, as restic groups by host and paths: here by library and type, so that a ``config`` backup
never fills the place of a ``full`` one. Backups made before a restore are groups of their own: they hold the state
that somebody wanted to replace, and must not represent the day on which they were made.

Only a good backup fills a place, so that a bad one never pushes out a good one. A backup that a drill could not prove,
but whose bytes are as they were written, is *disputed*: it fills no place of a good one, and it is removed only if it
would also be removed as a good one.

``max_age`` and ``max_count`` say what may be removed. Alone, they remove all backups that are older, or beyond the n
newest of their group. Together with ``keep`` words, a backup is removed only if they allow it *and* no ``keep`` word
wants it ("everything for 30 days, after that one a month"). A policy without any rule removes nothing.

Whatever the policy says, these stay:

- the newest good backups of the library (``good`` of them) and its newest good ``full`` one;
- if the newest good one of a type is degraded (it lacks what could not be read), the newest complete one;
- pinned ones, ones that something is reading, running ones;
- a bad one as long as no good one of its group is newer: it may be the only backup of that time;
- ones made before a restore, for 7 days: such a backup is the only record of what the restore replaced, and a loss
  is often noticed only after a week;
- ones dated in the future: some clock is wrong, so their age and order are no reason to delete them. They also fill
  no place, so that they cannot push out the newest ones.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from scriptorium.limits import MOST, NoTruth
from scriptorium.model import Backup
from scriptorium.words import BackupType, Status, Tier

UNLIMITED = MOST
SAFETY_DAYS = 7
_DISPUTED = "not proven, but it reads back as it was written: judged as a good one"
_SPAN = re.compile(r"(?:([0-9]{1,9})y)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?")


def _count(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("this is a whole number, not true or false")
    return UNLIMITED if value in ("unlimited", -1) else value


def _span(text: str) -> str:
    if text and (not (found := _SPAN.fullmatch(text)) or not any(found.groups())):
        raise ValueError("a duration is written like 2y5m7d3h (years, months, days, hours)")
    return text if text.strip("0ymdh") else ""  # a duration of zero is no duration, as for restic


Count = Annotated[int, BeforeValidator(_count), Field(ge=0, le=MOST)]
Span = Annotated[str, AfterValidator(_span)]


class Policy(BaseModel):
    """How long backups are kept; the module's docstring says what each word means.

    ``max_age`` in days. A ``keep`` word may be ``"unlimited"``; 0 is as if it were not there. ``within`` is restic's
    duration, counted back from the newest backup of the group. ``good``: how many good ones always stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: Count = 0
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    within: Span = ""
    max_age: Annotated[int | None, NoTruth] = Field(default=None, ge=1, le=36_500)
    max_count: Annotated[int | None, NoTruth] = Field(default=None, ge=1, le=MOST)
    good: Annotated[int, NoTruth] = Field(default=1, ge=1, le=MOST)

    @property
    def has_keep(self) -> bool:
        """Whether there is any ``keep`` word: then backups that none of them wants may be removed."""
        return bool(self.within) or any((self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly))

    @property
    def empty(self) -> bool:
        return not self.has_keep and self.max_age is None and self.max_count is None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What retention needs to know of a backup."""

    id: str
    library: str
    type: BackupType
    tier: Tier
    created_at: datetime
    status: Status
    pinned: bool = False
    bytes: int = 0
    disputed: bool = False

    @classmethod
    def of(cls, backup: Backup) -> Self:
        return cls(
            id=backup.id,
            library=backup.library,
            type=backup.type,
            tier=backup.tier,
            created_at=backup.created_at,
            status=backup.status,
            pinned=backup.pinned,
            bytes=backup.bytes,
            disputed=not backup.status.good and any(copy.disputed for copy in backup.copies),
        )

    @property
    def good(self) -> bool:
        return self.status.good

    @property
    def safety(self) -> bool:
        return self.tier is Tier.BEFORE_RESTORE


@dataclass(frozen=True, slots=True)
class Decision:
    """Keep or remove, and every reason for it in words for people (at least one). ``goes``: the stores whose copy of a
    backup that is kept is removed."""

    candidate: Candidate
    keep: bool
    reasons: tuple[str, ...]
    goes: tuple[str, ...] = ()


def plan(
    backups: Sequence[Candidate],
    policy: Policy,
    now: datetime,
    *,
    busy: frozenset[str] = frozenset(),
    tz: tzinfo = UTC,
) -> tuple[Decision, ...]:
    """Decide about every backup, newest first; the order of ``backups`` does not matter.

    ``backups`` must be all backups of their libraries: of a part of them, it would also keep the newest good one.
    ``busy``: ids of backups that something is reading. ``tz``: whose calendar the ``keep`` words mean.
    """
    ordered = sorted(backups, key=lambda one: (one.created_at, one.id), reverse=True)
    decided = _decided(ordered, policy, now, busy, tz)
    if any(one.disputed for one in ordered):
        if_good = [replace(one, status=Status.VERIFIED) if one.disputed else one for one in ordered]
        for one, otherwise in _decided(if_good, policy, now, busy, tz).items():
            mine = decided[one]
            if mine.candidate.disputed and otherwise.keep and not mine.keep:
                decided[one] = Decision(mine.candidate, True, (_DISPUTED, *otherwise.reasons))
    return tuple(decided[one.id] for one in ordered)


def _decided(
    ordered: Sequence[Candidate], policy: Policy, now: datetime, busy: frozenset[str], tz: tzinfo
) -> dict[str, Decision]:
    protected = _protected(ordered, policy.good, now, busy)
    groups: dict[Hashable, list[Candidate]] = defaultdict(list)
    for one in ordered:
        groups[one.library, one.type, one.safety].append(one)
    decided: dict[str, Decision] = {}
    for group in groups.values():
        for one, keep, reasons in _judge(group, policy, now, tz):
            if shields := protected.get(one.id, []):
                decided[one.id] = Decision(one, True, (*shields, *(reasons if keep else ())))
            else:
                decided[one.id] = Decision(one, keep, tuple(reasons))
    return decided


# --- what no policy removes ---------------------------------------------------------------------------------------


def _protected(ordered: Sequence[Candidate], good: int, now: datetime, busy: frozenset[str]) -> Mapping[str, list[str]]:
    """The backups that no policy removes, with the reasons."""
    shields: dict[str, list[str]] = defaultdict(list)
    for one, reason in _newest_good(ordered, good, now):
        if reason not in shields[one.id]:
            shields[one.id].append(reason)
    for one in _newest_whole(ordered, now):
        shields[one.id].append(f"newest {one.type} backup that is not degraded")
    for one in ordered:
        if one.pinned:
            shields[one.id].append("pinned")
        if one.id in busy:
            shields[one.id].append("being read")
        if one.status is Status.RUNNING:
            shields[one.id].append("still running")
        if one.created_at > now:
            shields[one.id].append("dated in the future")
        elif one.safety and now - one.created_at < timedelta(days=SAFETY_DAYS):
            shields[one.id].append(f"made before a restore, less than {SAFETY_DAYS} days ago")
    return shields


def _newest_whole(ordered: Sequence[Candidate], now: datetime) -> Iterator[Candidate]:
    """For each library and type whose newest good backup is degraded, the newest one that lacks nothing."""
    newest: dict[Hashable, Candidate] = {}
    found: set[Hashable] = set()
    for one in ordered:
        group = (one.library, one.type, one.safety)
        if one.created_at > now or not one.good or group in found:
            continue
        first = newest.setdefault(group, one)
        if one.status.whole:
            found.add(group)
            if first is not one:
                yield one


def _newest_good(ordered: Sequence[Candidate], good: int, now: datetime) -> Iterator[tuple[Candidate, str]]:
    """The newest good backups of each library. A backup made before a restore holds data that was to be replaced: so
    both the newest of all backups and the newest of the others stay."""
    usable = [one for one in ordered if one.good and one.created_at <= now]
    newest = (
        "newest good backup of the library" if good == 1 else f"among the {good} newest good backups of the library"
    )
    for library in {one.library for one in usable}:
        mine = [one for one in usable if one.library == library]
        for some in (mine, [one for one in mine if not one.safety]):
            for one in islice(some, good):
                yield one, newest
            for one in islice((one for one in some if one.type is BackupType.FULL), 1):
                yield one, "newest good full backup of the library"


# --- what the policy says -----------------------------------------------------------------------------------------


def _judge(
    group: Sequence[Candidate], policy: Policy, now: datetime, tz: tzinfo
) -> Iterator[tuple[Candidate, bool, list[str]]]:
    """The policy's verdict on each backup of one group (newest first)."""
    past = [one for one in group if one.created_at <= now]
    usable = [one for one in past if one.good]
    wanted = _wanted(past, usable, policy, tz)
    better = 0  # how many good ones are newer than the one looked at
    for one in group:
        word = f"{one.type} backup{'' if policy.max_count == 1 else 's'}"
        too_old = policy.max_age is not None and now - one.created_at > timedelta(days=policy.max_age)
        beyond = policy.max_count is not None and better >= policy.max_count
        go = [f"older than {_days(policy.max_age)}"] if too_old else []
        go += [f"over the {policy.max_count} newest {word}"] if beyond else []
        stay = wanted.get(one.id, [])
        if not one.good and better == 0:
            stay = [*stay, f"{one.status}, but no good {one.type} backup is newer"]
        if policy.empty:
            yield one, True, [*stay, "no rule says that anything may go"]
        elif stay:
            yield one, True, stay
        elif go or (policy.max_age is None and policy.max_count is None):
            yield one, False, go + _unwanted(one, policy)
        else:
            yield one, True, _within_limits(policy, word)
        better += one.good and one.created_at <= now


def _wanted(
    past: Sequence[Candidate], usable: Sequence[Candidate], policy: Policy, tz: tzinfo
) -> Mapping[str, list[str]]:
    """Which ``keep`` words want a backup."""
    wanted: dict[str, list[str]] = defaultdict(list)
    if policy.within and past:
        start = _back((usable or past)[0].created_at.astimezone(tz), policy.within)
        for one in past:
            if one.created_at > start:
                wanted[one.id].append(f"within {policy.within} of the newest")
    for word, count, calendar in (
        ("last", policy.last, None),
        ("hourly", policy.hourly, lambda t: (t.year, t.month, t.day, t.hour)),
        ("daily", policy.daily, lambda t: (t.year, t.month, t.day)),
        ("weekly", policy.weekly, lambda t: tuple(t.isocalendar())[:2]),
        ("monthly", policy.monthly, lambda t: (t.year, t.month)),
        ("yearly", policy.yearly, lambda t: t.year),
    ):
        for number, (one, label) in enumerate(_buckets(usable, word, count, calendar, tz), start=1):
            wanted[one.id].append(f"{label} {number}" + ("" if count == UNLIMITED else f" of {count}"))
    return wanted


def _buckets(
    usable: Sequence[Candidate], word: str, count: int, calendar: Callable[[datetime], Hashable] | None, tz: tzinfo
) -> Iterator[tuple[Candidate, str]]:
    """The backups that one ``keep`` word takes, newest first, each with its label."""
    previous: Hashable = None
    for position, one in enumerate(usable):
        bucket = position if calendar is None else calendar(one.created_at.astimezone(tz))
        oldest = position == len(usable) - 1
        if count > 0 and (bucket != previous or oldest):
            yield one, f"oldest {word} snapshot" if bucket == previous else f"{word} snapshot"
            count, previous = count - 1, bucket


def _back(time: datetime, span: str) -> datetime:
    """The time ``span`` earlier, on the calendar of its time zone. A day that the month does not have
    becomes a day of the next month, as it does for restic: one month before 31 March is 3 March."""
    found = _SPAN.fullmatch(span)
    assert found is not None  # the policy has checked it
    years, months, days, hours = (int(part or 0) for part in found.groups())
    month = time.year * 12 + time.month - 1 - years * 12 - months
    if month < 12:
        return datetime.min.replace(tzinfo=UTC)
    first = time.replace(year=month // 12, month=month % 12 + 1, day=1)
    try:
        wall = first + timedelta(days=time.day - 1 - days)  # same zone: days of the calendar, not of 24 hours
        return wall.astimezone(UTC) - timedelta(hours=hours)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _unwanted(one: Candidate, policy: Policy) -> list[str]:
    if not policy.has_keep:
        return []
    return ["no keep rule wants it"] if one.good else [f"{one.status}: it fills no place of a keep rule"]


def _within_limits(policy: Policy, word: str) -> list[str]:
    limits = [] if policy.max_age is None else [f"not older than {_days(policy.max_age)}"]
    return limits + ([] if policy.max_count is None else [f"among the {policy.max_count} newest {word}"])


def _days(count: int | None) -> str:
    return "1 day" if count == 1 else f"{count} days"


def removed(decisions: Iterable[Decision]) -> tuple[Candidate, ...]:
    """The backups that go, oldest first, so that an interrupted cleanup has removed the oldest."""
    return tuple(reversed([decision.candidate for decision in decisions if not decision.keep]))
