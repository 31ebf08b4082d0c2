"""Undoing the newest restore in place: the steps, and the recipe that strings them together without Prefect."""

from __future__ import annotations

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

_OTHER_WAY = "bring it back, or restore the safety backup of before the restore: scriptorium list"


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """The restore of ``backup`` is to be undone. ``cut_short``: it, or an undo of it, was ended in the middle, so that
    the living data may be a mixture, of which no safety backup is worth anything. ``safety``: whether one is wanted.
    ``compares``: the undo knows what is to be there again; that of a restore that an earlier version began does not."""

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
    """What there is to undo: a restore that was cut short comes before one that stands.

    ``NotFound`` when no previous data is kept.
    """
    chosen = settings.library(request.library)
    cut = cut_short(settings, chosen)
    backup = cut.backup if cut is not None else newest_kept(settings, chosen).backup
    compares = cut is None or cut.compares
    return UndoPlan(chosen.name, backup, cut is not None, safety=request.safety and cut is None, compares=compares)


def check_undo(settings: Settings, plan: UndoPlan) -> UndoPlan:
    """The plan, once nothing known stands in its way: ``LibraryBusy`` while the application holds the data open,
    ``RestoreFailed`` when the previous data of a part is not there."""
    if not plan.cut_short:  # otherwise it depends on how far the restore came, which ``recover`` knows
        chosen = settings.library(plan.library)
        require_idle(chosen)
        require_previous(newest_kept(settings, chosen), chosen)
    return plan


def preflight_undo(settings: Settings, plan: UndoPlan) -> Preflight:
    """What the undo would meet, as rows; changes nothing."""
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
    """The safety backup that is taken first; none where it is not wanted, or nothing living is left."""
    if not plan.safety or nothing_to_save(survey_each(settings, settings.library(plan.library))):
        return None
    return safety_request(plan.library, f"before the undo of the restore of {plan.backup}")


def undo_restore(settings: Settings, library: str) -> str:
    """Put back what the newest restore replaced; returns the id of the backup that is undone.

    After a restore that was cut short only that one is undone: an older one that stands was not meant.
    """
    chosen = settings.library(library)
    with workspace.lock(settings, library, "the undo of a restore"):
        cut = cut_short(settings, chosen)
        recover(settings, chosen)
        return cut.backup if cut is not None else put_back(settings, chosen)


def finished(settings: Settings, plan: UndoPlan, undone: str, saved: Backup | None) -> UndoResult:
    """What came of it."""
    return UndoResult(plan.library, undone, saved, lacking_in_safety(settings, saved), plan.compares)
