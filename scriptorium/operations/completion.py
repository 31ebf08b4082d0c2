"""Copies that earlier runs of a library could not make: the next one makes them, after its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace

from scriptorium.catalog import Catalog, runs
from scriptorium.errors import ScriptoriumError
from scriptorium.operations.copy import copy_each
from scriptorium.operations.copy_plan import CopyPlan, planned_copy
from scriptorium.operations.prune_plan import kept_by_retention
from scriptorium.results import BackupResult, Copied, PlannedCopy
from scriptorium.settings import Settings
from scriptorium.words import Status, Tier
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)

_AT_ONCE = 3  # copies: a store that was away for long does not make the next backup long


def complete_earlier(settings: Settings, result: BackupResult, make: Callable[[PlannedCopy], Copied]) -> BackupResult:
    """Make what earlier runs of the library could not make, with ``make``: the newest first. What fails here is a
    warning. A store that failed in this run is not tried again; nor does a safety backup wait for other copies."""
    backup = result.backup
    if backup.tier is Tier.BEFORE_RESTORE:
        return result
    try:
        planned = plan_completion(settings, backup.library, result.failed)
        with contained():
            done = copy_each(CopyPlan(planned), make)
    except ScriptoriumError as error:
        log.warning("what earlier backups lack could not be found: %s", error)
        return replace(result, uncompleted={"earlier backups": error})
    return replace(result, completed=done.copied, uncompleted=done.failed)


def plan_completion(settings: Settings, library: str, without: Collection[str] = ()) -> tuple[PlannedCopy, ...]:
    """The newest copies that runs of a library could not make. ``without``: stores that are left out."""
    if not any(run.missing and run.library == library and run.status is not Status.RUNNING for run in runs(settings)):
        return ()
    listing = Catalog(settings).listing(library=library, records=False)
    lacking = [backup for backup in listing.backups if backup.missing and backup.status.good]
    stores = {one.store for backup in lacking for one in backup.missing}
    kept = {store: kept_by_retention(settings, library, store) for store in stores}
    silent = {problem.store for problem in listing.problems}
    planned = (
        planned_copy(settings, backup, one.store)
        for backup in lacking
        for one in backup.missing
        if backup.id in kept[one.store] and one.store not in without and one.store not in silent
    )
    return tuple(one for one in planned if one is not None)[:_AT_ONCE]
