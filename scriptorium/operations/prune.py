"""Removing backups: by hand, or by the rules of retention. A plan is made first; it gives a reason for each backup."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import ValidationError

from scriptorium import workspace
from scriptorium.catalog import Catalog, finish_run
from scriptorium.errors import STORE_TROUBLE, LibraryBusy, Protected, UsageError
from scriptorium.failpoints import reach
from scriptorium.model import Backup, Copy
from scriptorium.operations.decided import plan_of
from scriptorium.operations.libraries import for_each
from scriptorium.operations.locks import locks_of
from scriptorium.operations.prune_plan import going, plan_cleanup
from scriptorium.operations.stores import reclaim
from scriptorium.requests import DeleteRequest, PruneRequest
from scriptorium.restore import drop_previous
from scriptorium.results import PruneResult
from scriptorium.retention import Decision, Policy
from scriptorium.settings import Settings
from scriptorium.sources.abilities import tidy
from scriptorium.stores.care import Reclaiming
from scriptorium.words import BackupType, Status

log = logging.getLogger(__name__)

_LOGGED = 20  # files that crashes left in one store; the result has all of them


def policy_of(rules: Mapping[str, object]) -> Policy:
    """The policy from rules that a user typed. ``UsageError`` says which one is wrong."""
    try:
        return Policy.model_validate(rules)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}", hint="see cleanup --help") from None


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """For each library, which backups are kept and which are removed, and why."""

    libraries: Mapping[str, tuple[Decision, ...]]
    dry_run: bool
    began: float = field(default_factory=time.monotonic, compare=False)

    def of(self, library: str) -> PrunePlan:
        """The part of the plan for one library."""
        return replace(self, libraries={library: self.libraries[library]})

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return tuple(decision for some in self.libraries.values() for decision in some)


def prune(settings: Settings, request: PruneRequest, *, now: datetime | None = None) -> PruneResult:
    """The whole recipe without Prefect. A library that is busy is skipped; that is an error at the end."""
    plan = plan_prune(settings, request, now=now)
    swept = sweep_stores(settings, dry_run=plan.dry_run)
    result = carry_out_each(plan, swept, lambda name: carry_out(settings, name, plan.libraries[name]))
    return with_space_reclaimed(result, lambda: reclaim(settings))


def plan_prune(settings: Settings, request: PruneRequest, *, now: datetime | None = None) -> PrunePlan:
    """Plan what retention does now with the backups of the library, or of all. Changes nothing."""
    if (known := plan_of(request, PrunePlan)) is not None:
        return known
    names = [settings.library(request.library).name] if request.library else list(settings.libraries)
    return PrunePlan({name: plan_cleanup(settings, name, request.policy, now=now) for name in names}, request.dry_run)


def carry_out_each(
    plan: PrunePlan, swept: tuple[str, ...], carry_out_one: Callable[[str], tuple[str, ...]]
) -> PruneResult:
    """Carry out the plan for each library with ``carry_out_one``; in a dry run, do nothing."""
    removed = () if plan.dry_run else for_each(list(plan.libraries), carry_out_one)
    return PruneResult(plan.decisions, tuple(one for some in removed for one in some), swept, plan.dry_run)


def with_space_reclaimed(result: PruneResult, reclaim_all: Callable[[], Mapping[str, str]]) -> PruneResult:
    """Free the space of what was removed with ``reclaim_all``; not in a dry run."""
    return result if result.dry_run else replace(result, unreclaimed=reclaim_all())


def carry_out(settings: Settings, library: str, decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Remove what the plan says, under the lock of the library; returns the removed ids, oldest first, and of a backup
    that loses single copies ``ID@STORE``.

    A backup stays if, since the plan was made, it was pinned, became the newest good one, or is being read.
    """
    began = time.monotonic()
    to_remove = {decision.candidate.id: decision for decision in decisions if not decision.keep or decision.goes}
    gone = sum(not decision.keep for decision in decisions)
    log.info("cleanup of %s: %d backups stay, %d go", library, len(decisions) - gone, gone)
    removed: list[str] = []
    with workspace.lock(settings, library, "cleanup"):
        reach("prune.locked")
        known = settings.library(library)
        drop_previous(settings, known, datetime.now(UTC))
        with suppress(LibraryBusy), workspace.lock(settings, workspace.scratch_name(library), "cleanup"):
            for source in known.sources:  # under the lock of drills: a running drill still uses its scratch data
                tidy(source)
        for store in settings.stores:  # under the lock of copies: what a killed one left staged is removed
            with suppress(LibraryBusy), workspace.lock(settings, workspace.copy_name(library, store), "cleanup"):
                pass
        catalog = Catalog(settings)
        backups = catalog.backups(library=library, records=False)
        stay = {name: _newest_good([one for one in backups if one.copies_in(name)], name) for name in settings.stores}
        for backup in reversed(backups):
            if backup.id not in to_remove:
                continue
            decision = to_remove[backup.id]
            if reason := _why_it_stays(settings, backup, decision, stay):
                log.info("%s of %s is skipped: %s", backup.id, library, reason)
            else:
                with workspace.removing(settings, backup.id) as free:
                    if free:
                        reach("prune.before-backup")
                        removed += _removed(settings, backup, decision)
                        log.info("%s of %s: %s", backup.id, library, "; ".join(decision.reasons))
                    else:
                        log.info("%s is skipped: something is reading it", backup.id)
        reach("prune.before-index")
        if removed:
            catalog.backups(records=False)  # brings the indexes up to date
    log.info("cleanup of %s: %d removed in %.1f s", library, len(removed), time.monotonic() - began)
    return tuple(removed)


def _why_it_stays(settings: Settings, backup: Backup, decision: Decision, newest: Mapping[str, Collection[str]]) -> str:
    """Why a backup is kept although the plan removes it, or a copy of it; empty if it may go. ``newest``: by store."""
    if any(backup.id in newest[store] for store in going(backup, decision)):
        return "it is the newest good one now"
    if backup.error:
        return f"its state is not known: {backup.error}"
    return "it is pinned now" if _is_pinned(settings, backup) else ""


def _newest_good(backups: Sequence[Backup], store: str) -> set[str]:
    """The newest backup with a good copy in a store and the newest full one, and for both the newest that lacks
    nothing. ``backups`` are ordered, newest first."""
    good = [one for one in backups if any(copy.status.good for copy in one.copies_in(store))]
    full = [backup for backup in good if backup.type is BackupType.FULL]
    whole = ([one for one in some if any(copy.status.whole for copy in one.copies_in(store))] for some in (good, full))
    return {some[0].id for some in (good, full, *whole) if some}


def _is_pinned(settings: Settings, backup: Backup) -> bool:
    """Whether it is pinned now: the stores are asked, since an index may be outdated."""
    return backup.pinned or any(settings.store(copy.store).annotations(copy.key).pinned for copy in backup.copies)


def sweep_stores(settings: Settings, *, dry_run: bool = False) -> tuple[str, ...]:
    """Remove what crashes left in the stores, once it is old enough; returns the store and name of each."""
    now = datetime.now(UTC)
    swept, busy = [], workspace.being_read(settings)
    for store in settings.stores.values():
        if workspace.receiver(store.name) in busy:
            log.info("%s is not swept: a copy goes into it now", store.name)
            continue
        with contextlib.suppress(*STORE_TROUBLE):  # swept by a later cleanup
            found = [f"{store.name}:{name}" for name in store.sweep(now, dry_run=dry_run)]
            for left in found[:_LOGGED]:
                log.info("%s, left by a run that was cut short, is %s", left, "found" if dry_run else "removed")
            swept += found
    return tuple(swept)


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """The backup that is to be removed by hand."""

    backup: Backup
    began: float = field(default_factory=time.monotonic, compare=False)


def delete(settings: Settings, request: DeleteRequest) -> Backup:
    """The whole recipe: find the backup, and remove every copy of it."""
    backup = plan_delete(settings, request).backup
    remove_by_hand(settings, backup)
    return backup


def plan_delete(settings: Settings, request: DeleteRequest) -> DeletePlan:
    """Which backup is meant. Changes nothing."""
    if (known := plan_of(request, DeletePlan)) is not None:
        return known
    return DeletePlan(Catalog(settings).find(request.reference, library=request.library))


def remove_by_hand(settings: Settings, backup: Backup) -> None:
    """Remove a backup from every store. ``Protected`` if it is pinned, something is reading it, or a store locks it:
    then no copy is removed."""
    if _is_pinned(settings, backup):
        raise Protected("this backup is pinned", on=backup.id, hint=f"scriptorium unpin {backup.id}")
    if backup.status is Status.RUNNING:
        raise Protected("this backup is being taken", on=backup.id, hint="cancel the run first")
    if locks := locks_of(settings, backup):
        reason = "; ".join(f"{store} locks it {lock}" for store, lock in locks.items())
        raise Protected(reason, on=backup.id, hint="cleanup removes what is no longer locked")
    with workspace.removing(settings, backup.id) as free:
        if not free:
            raise Protected("something is reading this backup", on=backup.id, hint="wait for it to end")
        if not _remove(settings, backup):
            raise Protected(
                "a store keeps a copy of it from being removed", on=backup.id, hint="show ID lists the copies"
            )
        log.info("%s of %s is deleted", backup.id, backup.library)
    reclaim(settings)
    Catalog(settings).backups(records=False)  # brings the indexes up to date


def _removed(settings: Settings, backup: Backup, decision: Decision) -> list[str]:
    """What was removed of a backup."""
    if not decision.keep:
        return [backup.id] if _remove(settings, backup) else []
    return [f"{backup.id}@{store}" for store in decision.goes if _remove_copies(settings, backup.copies_in(store))]


def _remove(settings: Settings, backup: Backup) -> bool:
    """Whether every copy is removed: one that its store locks stays, until a later cleanup."""
    removed = _remove_copies(settings, backup.copies)
    finish_run(settings, backup, Status.COMPLETE)  # nothing that its run could not store is missed any more
    return removed


def _remove_copies(settings: Settings, copies: Sequence[Copy]) -> bool:
    """Whether all of them are removed."""
    kept = False
    for copy in copies:
        try:
            if isinstance(settings.store(copy.store), Reclaiming):
                workspace.note_removal(settings, copy.store)
            settings.store(copy.store).remove(copy.key)
        except Protected as error:
            kept = True
            log.info("the copy %s in %s stays: %s", copy.label, copy.store, error)
    return not kept
