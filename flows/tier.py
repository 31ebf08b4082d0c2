"""A tier: what a schedule starts. Every library of the tier, one after the other."""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger

from flows.backup import backup
from flows.conduct import concluded, for_each
from scriptorium.model import Backup, Tier
from scriptorium.settings import current


@flow(name="tier", flow_run_name="{tier} backups", persist_result=False)
def tier(tier: str) -> tuple[Backup, ...]:
    """Back up every library of a tier (hourly, daily, weekly, monthly): what it takes and where to is in the settings.

    One that fails does not keep the others from being backed up; the run fails at its end and names it. Where backups
    are switched off (``enabled = false``), nothing is done.
    """
    settings, chosen = current(), Tier.parse(tier)
    if not settings.enabled:
        get_run_logger().warning("scheduled backups are switched off (enabled = false): nothing was done")
        return ()
    taken = for_each(settings.libraries_of(chosen), lambda library: backup(library=library, tier=chosen.value))
    return concluded(taken, taken)
