"""Undoing the newest restore in place: the steps, and the recipe that runs them without Prefect."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from scriptorium import workspace
from scriptorium.errors import LibraryBusy, RestoreFailed
from scriptorium.fs.previous import Previous, Whereabouts
from scriptorium.model import Backup
from scriptorium.operations.backup import backup
from scriptorium.operations.restore import (
    interrupted,
    lacking_in_safety,
    nothing_to_save,
    safety_request,
    save_first,
)
from scriptorium.progress import Advance
from scriptorium.requests import BackupRequest, UndoRequest
from scriptorium.restore import (
    Preflight,
    cut_short,
    find_previous,
    newest_kept,
    recover,
    require_idle,
    require_previous,
)
from scriptorium.restore import undo as put_back
from scriptorium.restore.space import survey_each
from scriptorium.results import PreflightRow, UndoResult
from scriptorium.settings import Settings
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)

_OTHER_WAY = "put it there again, or restore the safety backup from before the restore: scriptorium list"


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """The restore of ``backup`` is to be undone.

    ``cut_short``: the restore, or an undo of it, was ended in the middle. Then the living data may be a mixture, and a
    safety backup of it is useless. ``safety``: whether a safety backup is wanted. ``compares``: the journal records the
    previous data, so the undo can compare it; a journal of an earlier version does not.
    """

    library: str
    backup: str
    cut_short: bool
    safety: bool
    compares: bool = True


def undo(settings: Settings, request: UndoRequest, *, advance: Advance | None = None) -> UndoResult:
    """The whole recipe without Prefect, with its safety backup."""
    with contained():
        plan = check_undo(settings, plan_undo(settings, request))
        wanted = safety_of(settings, plan)
        saved = save_first(wanted, lambda one: backup(settings, one, advance=advance).backup)
        undone = undo_restore(settings, plan.library)
    return finished(settings, plan, undone, saved)


def plan_undo(settings: Settings, request: UndoRequest) -> UndoPlan:
    """Find the restore to undo: one that was cut short comes before one that was completed.

    ``NotFound`` if no previous data is kept.
    """
    chosen = settings.library(request.library)
    cut = cut_short(settings, chosen)
    backup = cut.backup if cut is not None else newest_kept(settings, chosen).backup
    compares = cut is None or cut.compares
    return UndoPlan(chosen.name, backup, cut is not None, safety=request.safety and cut is None, compares=compares)


def check_undo(settings: Settings, plan: UndoPlan) -> UndoPlan:
    """Return the plan if nothing known prevents it. ``LibraryBusy`` if the application has the data open,
    ``RestoreFailed`` if the previous data of a part is missing."""
    if not plan.cut_short:  # otherwise it depends on the state of the restore, which ``recover`` reads
        chosen = settings.library(plan.library)
        require_idle(chosen)
        require_previous(newest_kept(settings, chosen), chosen)
    return plan


def preflight_undo(settings: Settings, plan: UndoPlan) -> Preflight:
    """The checks before an undo, as rows; changes nothing."""
    chosen = settings.library(plan.library)
    if plan.cut_short:
        cut = cut_short(settings, chosen)
        found = find_previous(cut, chosen) if cut is not None and cut.kept else {}
        whereabouts = (_whereabouts(source, one, one.where is not Whereabouts.GONE) for source, one in found.items())
        last = PreflightRow("safety backup", "none: a mixture is not saved")
        return Preflight((interrupted(plan.backup), *whereabouts, last), {})
    rows = [PreflightRow("restore", f"of {plan.backup} over {plan.library}: what it replaced is put back")]
    try:
        rows.append(PreflightRow("application", require_idle(chosen)))
    except LibraryBusy as error:
        rows.append(PreflightRow("application", "running", error))
    found = find_previous(newest_kept(settings, chosen), chosen)
    return Preflight((*rows, *(_whereabouts(source, one, one.whole) for source, one in found.items())), {})


def _whereabouts(source: str, found: Previous, good: bool) -> PreflightRow:
    trouble = RestoreFailed("the previous data cannot be put back", on=f"{source}: {found.what}", hint=_OTHER_WAY)
    return PreflightRow(f"previous data of {source}", f"{found.where}: {found.what}", None if good else trouble)


def safety_of(settings: Settings, plan: UndoPlan) -> BackupRequest | None:
    """The safety backup that is taken first; none if it is not wanted, or no living data is left."""
    if not plan.safety or nothing_to_save(survey_each(settings, settings.library(plan.library))):
        return None
    return safety_request(plan.library, f"before the undo of the restore of {plan.backup}")


def undo_restore(settings: Settings, library: str) -> str:
    """Put back what the newest restore replaced; returns the id of the backup whose restore is undone.

    If a restore was cut short, only that one is undone; an older, completed one is left as it is.
    """
    chosen = settings.library(library)
    with workspace.lock(settings, library, "the undo of a restore"):
        cut = cut_short(settings, chosen)
        if cut is not None:
            log.info("%s: the restore of %s was cut short; it is undone first", library, cut.backup)
        recover(settings, chosen)
        return cut.backup if cut is not None else put_back(settings, chosen)


def finished(settings: Settings, plan: UndoPlan, undone: str, saved: Backup | None) -> UndoResult:
    """The result of the undo."""
    return UndoResult(plan.library, undone, saved, lacking_in_safety(settings, saved), plan.compares, plan.cut_short)
