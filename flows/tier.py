"""A tier: what a schedule starts. Every library of the tier, one after the other."""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger

from flows.backup import backup
from scriptorium.errors import ScriptoriumError
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
    done, failed = [], []
    for library in settings.libraries_of(chosen):
        try:
            done.append(backup(library=library, tier=chosen.value))
        except ScriptoriumError as error:
            failed.append((library, error))
    if failed:
        names = "; ".join(f"{library}: {error}" for library, error in failed)
        raise type(failed[0][1])(f"{len(failed)} of {len(failed) + len(done)} failed", on=names, hint=failed[0][1].hint)
    return tuple(done)
