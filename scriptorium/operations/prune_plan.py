"""What retention decides about the backups of a library: for each store by its own rules, then for each backup.

A copy goes only if a newer one in its store is proven by a drill (``prune_after``; a policy that was given by hand asks
for no more than that the newer one is good). A backup goes if each of its copies does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import STORE_TROUBLE
from scriptorium.model import Backup, Copy
from scriptorium.operations.locks import locks_of
from scriptorium.retention import Candidate, Decision, Policy, plan
from scriptorium.settings import PruneAfter, Settings
from scriptorium.stores.care import time_of
from scriptorium.words import BackupType

_UNKNOWN = "its manifest cannot be read, so nothing is known about it: see show, and delete it by hand"
_SLACK = timedelta(days=1)  # a store without a clock of its own shows only when something was stored last


@dataclass(frozen=True, slots=True)
class _Kept:
    """One copy, and what retention needs to know of it."""

    candidate: Candidate
    copy: Copy


def plan_cleanup(
    settings: Settings,
    library: str,
    policy: Policy | None = None,
    *,
    now: datetime | None = None,
    after: PruneAfter | None = None,
) -> tuple[Decision, ...]:
    """What retention does now with a library's backups: keep or remove, each with its reasons. Changes nothing.

    Without a ``policy``, the settings' rules apply (see ``Settings.rules``). ``now``: by default what the stores say
    of the time. ``after``: by default as the settings say (``prune_after``); with a ``policy``, ``complete``.
    """
    after = after or ("complete" if policy is not None else settings.prune_after)
    backups = Catalog(settings).backups(library=library, records=False)
    known = [backup for backup in backups if not backup.error]
    busy = workspace.being_read(settings)
    now = now or trusted_time(settings)
    by_backup: dict[str, dict[str, Decision]] = {backup.id: {} for backup in known}
    for store in settings.stores:
        copies = [_kept(backup, store) for backup in known if backup.copies_in(store)]
        for one in _judged(settings, store, copies, policy, now, busy, after):
            by_backup[one.candidate.id][store] = one
    _keep_last_good(settings, known, by_backup, policy, now)
    decisions = [_with_locks(settings, backup, _merged(backup, by_backup[backup.id])) for backup in known]
    unknown = [Decision(Candidate.of(backup), True, (_UNKNOWN,)) for backup in backups if backup.error]
    return tuple(sorted((*decisions, *unknown), key=lambda one: one.candidate.created_at, reverse=True))


def kept_by_retention(settings: Settings, library: str, store: str, *, now: datetime | None = None) -> frozenset[str]:
    """The good backups that a store keeps by the settings' rules if it has them all, whatever it locks: their ids."""
    backups = Catalog(settings).backups(library=library, records=False)
    return _wanted(settings, store, [one for one in backups if not one.error], None, now or trusted_time(settings))


def _wanted(
    settings: Settings, store: str, backups: Sequence[Backup], policy: Policy | None, now: datetime
) -> frozenset[str]:
    decisions = _by_rules(settings, store, [Candidate.of(backup) for backup in backups], policy, now, frozenset())
    good = {backup.id for backup in backups if backup.status.good}
    return frozenset(one.candidate.id for one in decisions if one.keep and one.candidate.id in good)


def trusted_time(settings: Settings) -> datetime:
    """The time that retention counts from: never later than a store that has a clock of its own says. Without such a
    store, never more than a day later than the newest backup was stored: a clock of this machine that is wrong, or a
    machine that was off, makes no backup old."""
    here = datetime.now(UTC)
    reported, stored = [], []
    for store in settings.stores.values():
        with contextlib.suppress(*STORE_TROUBLE):
            if (at := time_of(store)) is not None:
                reported.append(at)
            elif not reported:
                stored += [found.modified for found in store.list()]
    if reported:
        return min(here, max(reported))
    return min(here, max(stored) + _SLACK) if stored else here


def _kept(backup: Backup, store: str) -> _Kept:
    """A backup as its best copy in a store."""
    copy = max(backup.copies_in(store), key=lambda one: (one.status.good, one.proven_at is not None))
    disputed = not copy.status.good and copy.disputed
    return _Kept(replace(Candidate.of(backup), status=copy.status, bytes=copy.bytes, disputed=disputed), copy)


def _judged(
    settings: Settings,
    store: str,
    copies: Sequence[_Kept],
    policy: Policy | None,
    now: datetime,
    busy: frozenset[str],
    after: PruneAfter,
) -> Iterator[Decision]:
    """The decision about each copy in one store."""
    for one in _by_rules(settings, store, [kept.candidate for kept in copies], policy, now, busy):
        if one.keep or not one.candidate.good or _is_followed(one.candidate, copies, after):
            yield one
        else:
            way = "scriptorium drill" if after == "proven" else "scriptorium verify"
            reason = f"no newer copy in {store} is {after}: {way}"
            yield Decision(one.candidate, True, (*one.reasons, reason))


def _is_followed(candidate: Candidate, copies: Iterable[_Kept], after: PruneAfter) -> bool:
    """Whether the store has a newer copy that holds as much and is as good as ``prune_after`` asks for."""
    return any(
        kept.candidate.created_at > candidate.created_at
        and kept.candidate.good
        and kept.candidate.type in (candidate.type, BackupType.FULL)
        and (after == "complete" or (kept.copy.proven_at if after == "proven" else kept.copy.verified_at) is not None)
        for kept in copies
    )


def _keep_last_good(
    settings: Settings,
    backups: Sequence[Backup],
    decided: Mapping[str, dict[str, Decision]],
    policy: Policy | None,
    now: datetime,
) -> None:
    """The good copies of a backup stay as long as a store that keeps it by its rules has only a damaged one, or could
    not get one: its copy is made from them. The damaged one stays, too: it shows what the store lacks."""
    wanted: dict[str, frozenset[str]] = {}
    for backup in backups:
        of_stores = decided[backup.id]
        good = {copy.store for copy in backup.copies if copy.status.good}
        if not any(not one.keep for one in of_stores.values()) or any(of_stores[store].keep for store in good):
            continue
        lacking = [copy.store for copy in backup.copies] + [one.store for one in backup.missing]
        for store in (one for one in dict.fromkeys(lacking) if one not in good and one in settings.stores):
            if store not in wanted:
                wanted[store] = _wanted(settings, store, backups, policy, now)
            if backup.id in wanted[store]:
                disputed = any(copy.disputed for copy in backup.copies_in(store))
                way = f"drill {backup.id} --from {store}" if disputed else f"copy {backup.id} --to {store}"
                reason = f"{store} keeps it, and has no good copy: scriptorium {way}"
                for name in (one for one in (*good, store) if one in of_stores):
                    of_stores[name] = Decision(of_stores[name].candidate, True, (reason,))


def _by_rules(
    settings: Settings,
    store: str,
    known: Sequence[Candidate],
    policy: Policy | None,
    now: datetime,
    busy: frozenset[str],
) -> Iterator[Decision]:
    """The decisions by the rules of each group of tiers in one store."""
    groups: dict[str, tuple[Policy, list[Candidate]]] = {}
    for one in known:
        group, rules = ("", policy) if policy is not None else settings.rules(one.tier, store)
        groups.setdefault(group, (rules, []))[1].append(one)
    for rules, group_of in groups.values():
        yield from plan(group_of, rules, now, busy=busy, tz=settings.zone)


def _merged(backup: Backup, decisions: Mapping[str, Decision]) -> Decision:
    """The decision about a backup from those about its copies."""
    candidate = Candidate.of(backup)
    going = tuple(store for store, one in decisions.items() if not one.keep)
    keep = len(going) < len(decisions)
    reasons = dict.fromkeys(_reasons(decisions, mixed=keep and bool(going)))
    return Decision(candidate, keep, tuple(reasons), going if keep else ())


def _reasons(decisions: Mapping[str, Decision], *, mixed: bool) -> Iterator[str]:
    same = len({one.reasons for one in decisions.values()}) == 1
    for store, one in decisions.items():
        for reason in one.reasons:
            if mixed:
                yield f"{store}: {'kept' if one.keep else 'goes'}, {reason}"
            else:
                yield reason if same else f"{store}: {reason}"


def _with_locks(settings: Settings, backup: Backup, decision: Decision) -> Decision:
    """The decision with what the stores lock: a copy stays that is locked, a backup whose every copy is locked."""
    goes = going(backup, decision)
    if not goes:
        return decision
    locks = {store: lock for store, lock in locks_of(settings, backup).items() if store in goes}
    reasons = tuple(f"{store} locks it {lock}" for store, lock in locks.items())
    if decision.keep:
        left = tuple(store for store in decision.goes if store not in locks)
        return replace(decision, goes=left, reasons=(*decision.reasons, *reasons))
    if len(locks) == len(goes):
        return replace(decision, keep=True, reasons=(*reasons, "it goes after that"))
    return replace(decision, reasons=(*decision.reasons, *(f"{one}: that copy stays" for one in reasons)))


def going(backup: Backup, decision: Decision) -> Collection[str]:
    """The stores whose copy of a backup is removed."""
    return decision.goes if decision.keep else tuple(copy.store for copy in backup.copies)
