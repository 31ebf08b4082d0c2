"""When Prefect starts each deployment: the schedules, made from the settings.

``prefect.yaml`` calls ``for_deployments`` as its build step and puts what it returns into its fields. A deployment
stays as its last ``prefect deploy`` made it: after a change of ``cron`` or ``timezone``, deploy again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from scriptorium.errors import SettingsError
from scriptorium.settings.finding import current, find_file
from scriptorium.settings.models import Settings
from scriptorium.words import Tier

# For a tier that is not in the settings: without any [tiers], backups are taken every night.
_USUAL = {Tier.DAILY: "0 2 * * *", Tier.WEEKLY: "0 3 * * 0", Tier.MONTHLY: "0 4 1 * *"}
_UNUSED = "0 * * * *"  # Prefect needs a line even for a schedule that is off


@dataclass(frozen=True)
class Schedule:
    """When a tier runs; ``active``: whether it does."""

    cron: str
    timezone: str
    active: bool


def schedule_of(settings: Settings | None, tier: Tier) -> Schedule:
    """The schedule of a tier: from the settings; for a tier that is not there, the usual one, if it has one."""
    zone = str(getattr(settings.zone, "key", "UTC")) if settings else "UTC"
    usual = _USUAL.get(tier, "")
    cron = settings.tiers[tier].cron if settings and tier in settings.tiers else usual
    return Schedule(cron or usual or _UNUSED, zone, active=bool(cron))


def for_deployments() -> dict[str, dict[str, object]]:
    """Tier -> ``cron``, ``timezone``, ``active``; ``maintenance`` -> the ``timezone`` of all other schedules."""
    settings = _settings()
    made: dict[str, dict[str, object]] = {}
    for tier in (Tier.HOURLY, Tier.DAILY, Tier.WEEKLY, Tier.MONTHLY):
        found = schedule_of(settings, tier)
        made[tier.value] = {"cron": found.cron, "timezone": found.timezone, "active": found.active}
    return {**made, "maintenance": {"timezone": schedule_of(settings, Tier.DAILY).timezone}}


def _settings() -> Settings | None:
    """The settings; ``None``, with a message, if there are none."""
    try:
        return current()
    except SettingsError as error:
        if find_file() is None:
            print(f"the schedules are the usual ones, in UTC: {error}", file=sys.stderr)  # noqa: T201
            return None
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  Prefect names only the step that failed
        raise
