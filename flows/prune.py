"""Prune: apply the rules of retention. A plan is made first; a dry run ends there."""

from __future__ import annotations

from prefect import flow

from flows.runs import given, publish
from scriptorium.operations.prune import carry_out_each, plan_prune, with_space_reclaimed
from scriptorium.report.prune import prune_report
from scriptorium.requests import MaybePolicy, PruneRequest
from scriptorium.results import PruneResult
from scriptorium.settings import current
from tasks.stores import prune as remove
from tasks.stores import reclaim, sweep


def _name() -> str:
    parameters = given()
    return f"{'dry run: ' if parameters.get('dry_run') else ''}prune {parameters.get('library', 'every library')}"


@flow(name="prune", flow_run_name=_name, persist_result=False)
def prune(library: str | None = None, policy: MaybePolicy = None, dry_run: bool = False) -> PruneResult:
    """Remove backups of one library, or of all, that retention does not keep, and what crashes left in the stores.

    A library that is busy is skipped, and the others are pruned; the run fails at its end.

    Args:
        library: A name from the settings. Default: all libraries.
        policy: Rules instead of the settings' rules, for example daily 7.
        dry_run: Only say what would be removed.
    """
    request = PruneRequest(**locals())
    plan = plan_prune(current(), request)
    pruned = carry_out_each(plan, sweep(plan.dry_run), lambda name: remove(name, plan.libraries[name]))
    result = with_space_reclaimed(pruned, reclaim)
    publish(prune_report(result, request.library))
    return result
