"""Series of backups, and the decisions about them, in the notation of the retention tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from scriptorium.retention import Candidate, Decision
from scriptorium.words import BackupType, Status, Tier

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
    instant = when if isinstance(when, datetime) else datetime.fromisoformat(when)
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return Candidate(id or instant.isoformat(), library, type, tier, instant, status, pinned, 1000)


def daily(count: int, *, newest: datetime = NOW, step: timedelta = timedelta(days=1)) -> list[Candidate]:
    return [backup(newest - number * step, id=f"{number}") for number in range(count)]


def kept(decisions: tuple[Decision, ...]) -> list[str]:
    return [decision.candidate.id for decision in decisions if decision.keep]


def reasons(decisions: tuple[Decision, ...], id: str) -> tuple[str, ...]:
    return next(decision.reasons for decision in decisions if decision.candidate.id == id)
