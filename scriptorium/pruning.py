"""Removing backups: by hand, or by the rules of retention. Plans first, and says why for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from scriptorium import workspace
from scriptorium.catalog import Catalog, finish_run
from scriptorium.errors import Protected, UsageError
from scriptorium.model import Backup, Status
from scriptorium.retention import Candidate, Decision, Policy, plan
from scriptorium.settings import Settings
from scriptorium.stores.backups import remove, sweep


def policy_of(rules: Mapping[str, object]) -> Policy:
    """Rules as somebody typed them. ``UsageError`` says which one is wrong."""
    try:
        return Policy.model_validate(rules)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}", hint="see cleanup --help") from None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a cleanup decided and did: ids that were removed, keys of rubbish that was swept up."""

    decisions: tuple[Decision, ...]
    removed: tuple[str, ...]
    swept: tuple[str, ...]
    dry_run: bool


def plan_cleanup(
    settings: Settings, library: str, policy: Policy | None = None, *, now: datetime | None = None
) -> tuple[Decision, ...]:
    """What retention would do with a library's backups now: keep or remove, each with its reasons. Changes nothing."""
    backups = Catalog(settings).backups(library=library, records=False)
    candidates = [Candidate.of(backup) for backup in backups]
    return plan(candidates, policy or settings.keep, now or datetime.now(UTC), busy=workspace.being_read(settings))


def carry_out(settings: Settings, library: str, decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Remove what a plan says, holding the library; returns the ids that were removed.

    What has become pinned, or is being read, since the plan was made stays.
    """
    doomed = {decision.candidate.id for decision in decisions if not decision.keep}
    removed = []
    with workspace.lock(settings, library, "cleanup"):
        for backup in Catalog(settings).backups(library=library, records=False):
            if backup.id in doomed and not backup.pinned and backup.id not in workspace.being_read(settings):
                _remove(settings, backup)
                removed.append(backup.id)
    return tuple(removed)


def sweep_stores(settings: Settings, *, dry_run: bool = False) -> tuple[str, ...]:
    """Collect what crashes left in the stores, past its grace time; returns the keys."""
    now = datetime.now(UTC)
    return tuple(
        f"{store.name}:{info.key}" for store in settings.stores.values() for info in sweep(store, now, dry_run=dry_run)
    )


def delete(settings: Settings, backup: Backup) -> None:
    """Remove a backup from every store. ``Protected`` when it is pinned or something is reading it."""
    if backup.pinned:
        raise Protected("this backup is pinned", on=backup.id, hint=f"scriptorium unpin {backup.id}")
    if backup.id in workspace.being_read(settings):
        raise Protected("something is reading this backup", on=backup.id, hint="wait for it to end")
    if backup.status is Status.RUNNING:
        raise Protected("this backup is being taken", on=backup.id, hint="cancel the run first")
    _remove(settings, backup)


def _remove(settings: Settings, backup: Backup) -> None:
    for copy in backup.copies:
        remove(settings.store(copy.store), copy.key)
    finish_run(settings, backup, Status.COMPLETE)
    Catalog(settings).backups(library=backup.library, records=False)  # brings the indexes up to date
