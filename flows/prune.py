"""Prune: apply the rules of retention. Plans first; a dry run stops there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.runs import for_each, given, publish
from scriptorium import wording
from scriptorium.operations.prune import Pruned, plan_cleanup, policy_of
from scriptorium.report.runs import Report
from scriptorium.retention import Decision
from scriptorium.settings import current
from tasks.stores import prune as remove
from tasks.stores import sweep


def _name() -> str:
    said = given()
    return f"{'dry run: ' if said.get('dry_run') else ''}prune {said.get('library', 'every library')}"


@flow(name="prune", flow_run_name=_name, persist_result=False)
def prune(library: str | None = None, policy: dict[str, Any] | None = None, dry_run: bool = False) -> Pruned:
    """Remove what retention lets go of one library, or of all; sweep up what crashes left in the stores.

    A library that is busy is left out, the others are pruned; the run fails at its end.
    ``policy``: rules instead of the settings' (``{"daily": 7, "max_age": 30}``).
    """
    settings = current()
    rules = policy_of(policy) if policy else None
    libraries = [settings.library(library).name] if library else list(settings.libraries)
    decisions = {name: plan_cleanup(settings, name, rules) for name in libraries}
    swept = sweep(dry_run)
    ids = () if dry_run else for_each(libraries, lambda name: remove(name, decisions[name]))
    removed = tuple(one for some in ids for one in some)
    pruned = Pruned(tuple(decision for plan in decisions.values() for decision in plan), removed, swept, dry_run)
    _report(pruned.decisions, pruned, library or "all")
    return pruned


def _report(decisions: Sequence[Decision], pruned: Pruned, library: str) -> None:
    summary = {
        "verdict": "dry run: nothing was removed" if pruned.dry_run else f"{len(pruned.removed)} removed",
        "kept": str(sum(decision.keep for decision in decisions)),
        "freed": wording.size(sum(one.candidate.bytes for one in decisions if one.candidate.id in pruned.removed)),
    }
    rows = [
        {
            "backup": decision.candidate.id,
            "taken": wording.moment(decision.candidate.created_at),
            "type": str(decision.candidate.type),
            "verdict": "keep" if decision.keep else "remove",
            "why": "; ".join(decision.reasons),
        }
        for decision in decisions
    ]
    publish(Report("prune", library, "Retention", summary, rows))
