"""Tier: back up every library of a tier, one after the other. A schedule starts this."""

from __future__ import annotations

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.runtime import deployment

from flows.backup import backup
from flows.runs import concluded, given
from scriptorium.model import Backup
from scriptorium.operations.libraries import for_each
from scriptorium.requests import AnyTier, TierRequest
from scriptorium.settings import Settings, current
from scriptorium.settings.schedules import schedule_of


@flow(name="tier", flow_run_name=lambda: f"{given()['tier']} backups", persist_result=False)
def tier(tier: AnyTier) -> tuple[Backup, ...]:
    """Back up every library of a tier. The settings say what is saved, and to which stores.

    A library that fails does not stop the others; the run fails at its end and names it. If backups are switched off
    (``enabled = false``), nothing is done.

    Args:
        tier: The tier, by its name in the settings.
    """
    chosen, settings = TierRequest(tier=tier).tier, current()
    _compare_schedules(settings, chosen)
    if not settings.enabled:
        get_run_logger().warning("scheduled backups are switched off (enabled = false): nothing was done")
        return ()
    taken = for_each(settings.libraries_of(chosen), lambda library: backup(library=library, tier=chosen))
    return concluded(taken, taken)


def _compare_schedules(settings: Settings, tier: AnyTier) -> None:
    """Warn if the settings have changed since this deployment was made: the new schedule would have no effect."""
    if not deployment.id:
        return
    wanted = schedule_of(settings, tier)
    try:
        with get_client(sync_client=True) as client:
            found = [one for one in client.read_deployment(deployment.id).schedules if one.active]
    except Exception:  # noqa: BLE001  no backup may fail because of this
        return
    deployed = {(getattr(one.schedule, "cron", ""), getattr(one.schedule, "timezone", "")) for one in found}
    if deployed != ({(wanted.cron, wanted.timezone)} if wanted.active else set()):
        wanted_schedule = f"at '{wanted.cron}' in {wanted.timezone}" if wanted.active else "not by itself"
        get_run_logger().warning(
            "the settings say that the tier %s runs %s, this deployment was made otherwise: prefect deploy --all",
            tier,
            wanted_schedule,
        )
