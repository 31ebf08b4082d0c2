"""Removing backups: by hand, or by the rules of retention. A plan is made first; it gives a reason for each backup."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import ValidationError

from scriptorium import workspace
from scriptorium.catalog import Catalog, finish_run
from scriptorium.errors import STORE_TROUBLE, LibraryBusy, Protected, UsageError
from scriptorium.failpoints import reach
from scriptorium.model import Backup
from scriptorium.operations.decided import plan_of
from scriptorium.operations.libraries import for_each
from scriptorium.operations.locks import locks_of
from scriptorium.operations.stores import reclaim
from scriptorium.requests import DeleteRequest, PruneRequest
from scriptorium.restore import drop_previous
from scriptorium.results import PruneResult
from scriptorium.retention import Candidate, Decision, Policy, plan
from scriptorium.settings import Settings
from scriptorium.sources.abilities import tidy
from scriptorium.stores.care import Reclaiming
from scriptorium.words import BackupType, Status

log = logging.getLogger(__name__)

_LOGGED = 20  # files that crashes left in one store; the result has all of them
_UNKNOWN = "its manifest cannot be read, so nothing is known about it: see show, and delete it by hand"


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


def plan_cleanup(
    settings: Settings, library: str, policy: Policy | None = None, *, now: datetime | None = None
) -> tuple[Decision, ...]:
    """What retention does now with a library's backups: keep or remove, each with its reasons. Changes nothing.

    Without a ``policy``, a tier's own ``keep`` applies to the backups of that tier, the settings' ``keep`` to the rest.
    """
    now = now or datetime.now(UTC)
    backups = Catalog(settings).backups(library=library, records=False)
    known = [Candidate.of(backup) for backup in backups if not backup.error]
    busy = workspace.being_read(settings)
    decisions = [
        decision
        for rules, ruled in _by_policy(settings, policy, known)
        for decision in plan(ruled, rules, now, busy=busy, tz=settings.zone)
    ]
    by_id = {backup.id: backup for backup in backups}
    decisions = [_with_locks(settings, by_id[one.candidate.id], one) for one in decisions]
    unknown = [Decision(Candidate.of(backup), True, (_UNKNOWN,)) for backup in backups if backup.error]
    return tuple(sorted((*decisions, *unknown), key=lambda one: one.candidate.created_at, reverse=True))


def kept_by_retention(settings: Settings, library: str, *, now: datetime | None = None) -> frozenset[str]:
    """The good backups of a library that the settings' rules keep, whatever a store locks: their ids."""
    backups = Catalog(settings).backups(library=library, records=False)
    known = [Candidate.of(backup) for backup in backups if not backup.error]
    decisions = (
        decision
        for rules, ruled in _by_policy(settings, None, known)
        for decision in plan(ruled, rules, now or datetime.now(UTC), tz=settings.zone)
    )
    good = {backup.id for backup in backups if backup.status.good}
    return frozenset(one.candidate.id for one in decisions if one.keep and one.candidate.id in good)


def _by_policy(
    settings: Settings, policy: Policy | None, known: Sequence[Candidate]
) -> Iterator[tuple[Policy, list[Candidate]]]:
    own = {} if policy else {name: tier.keep for name, tier in settings.tiers.items() if tier.keep != Policy()}
    yield policy or settings.keep, [one for one in known if one.tier not in own]
    for tier, rules in own.items():
        yield rules, [one for one in known if one.tier is tier]


def _with_locks(settings: Settings, backup: Backup, decision: Decision) -> Decision:
    """The decision with what the stores lock: a backup stays whose every copy is locked."""
    if decision.keep:
        return decision
    locks = locks_of(settings, backup)
    said = tuple(f"{store} locks it {lock}" for store, lock in locks.items())
    if len(locks) == len(backup.copies):
        return Decision(decision.candidate, True, (*said, "it goes after that"))
    return Decision(decision.candidate, False, (*decision.reasons, *(f"{one}: that copy stays" for one in said)))


def carry_out(settings: Settings, library: str, decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Remove what the plan says, under the lock of the library; returns the removed ids, oldest first.

    A backup stays if, since the plan was made, it was pinned, became the newest good one, or is being read.
    """
    began = time.monotonic()
    to_remove = {decision.candidate.id: "; ".join(decision.reasons) for decision in decisions if not decision.keep}
    log.info("cleanup of %s: %d backups stay, %d go", library, len(decisions) - len(to_remove), len(to_remove))
    removed = []
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
        stay = _newest_good(backups)
        for backup in reversed(backups):
            if backup.id not in to_remove:
                continue
            if reason := _why_it_stays(settings, backup, stay):
                log.info("%s of %s is skipped: %s", backup.id, library, reason)
            else:
                with workspace.removing(settings, backup.id) as free:
                    if free:
                        reach("prune.before-backup")
                        if _remove(settings, backup):
                            removed.append(backup.id)
                            log.info("%s of %s is removed: %s", backup.id, library, to_remove[backup.id])
                    else:
                        log.info("%s is skipped: something is reading it", backup.id)
        reach("prune.before-index")
        if removed:
            catalog.backups(records=False)  # brings the indexes up to date
    log.info("cleanup of %s: %d removed in %.1f s", library, len(removed), time.monotonic() - began)
    return tuple(removed)


def _why_it_stays(settings: Settings, backup: Backup, newest: Collection[str]) -> str:
    """Why a backup is kept although the plan removes it; empty if it may go."""
    if backup.id in newest:
        return "it is the newest good one now"
    if backup.error:
        return f"its state is not known: {backup.error}"
    return "it is pinned now" if _is_pinned(settings, backup) else ""


def _newest_good(backups: Sequence[Backup]) -> set[str]:
    """The newest good backup and the newest good full one, and for both the newest that lacks nothing. ``backups`` are
    ordered, newest first."""
    good = [backup for backup in backups if backup.status.good]
    full = [backup for backup in good if backup.type is BackupType.FULL]
    whole = ([backup for backup in some if backup.status.whole] for some in (good, full))
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
        said = "; ".join(f"{store} locks it {lock}" for store, lock in locks.items())
        raise Protected(said, on=backup.id, hint="cleanup removes what is no longer locked")
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


def _remove(settings: Settings, backup: Backup) -> bool:
    """Whether every copy is removed: one that its store locks stays, until a later cleanup."""
    kept = False
    for copy in backup.copies:
        try:
            if isinstance(settings.store(copy.store), Reclaiming):
                workspace.note_removal(settings, copy.store)
            settings.store(copy.store).remove(copy.key)
        except Protected as error:
            kept = True
            log.info("the copy of %s in %s stays: %s", backup.id, copy.store, error)
    finish_run(settings, backup, Status.COMPLETE)  # nothing that its run could not store is missed any more
    return not kept
