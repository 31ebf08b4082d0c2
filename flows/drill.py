"""Drill: restore a backup into a scratch folder and compare it, to prove that it can be restored."""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger

from flows.runs import given, of_library, publish
from scriptorium.errors import DamageFound, KeyMissing
from scriptorium.model import NOT_PROVEN, Proof
from scriptorium.operations.drill import plan_drill
from scriptorium.operations.libraries import for_each
from scriptorium.report.drill import drill_report
from scriptorium.requests import LATEST, DrillAllRequest, DrillRequest
from scriptorium.results import DrillResult
from scriptorium.settings import current
from tasks.drill import drill as drill_copy


def _name() -> str:
    return f"drill {given().get('reference', LATEST)}{of_library()}"


@flow(name="drill", flow_run_name=_name, persist_result=False)
def drill(reference: str = LATEST, library: str | None = None, store: str | None = None) -> DrillResult:
    """Restore a backup into a scratch folder, compare it with its record, and keep the proof.

    A difference is a result, not an error: the caller looks at the proof.

    Args:
        reference: The backup: its id, 4 or more digits of it, its name, or latest.
        library: A name from the settings; needed for latest if there are several.
        store: The store whose copy is drilled. Default: the best copy.
    """
    plan = plan_drill(current(), DrillRequest(**locals()))
    result = DrillResult(plan.backup, drill_copy(plan))
    publish(drill_report(result))
    return result


@flow(name="drill-all", flow_run_name="drill every library", persist_result=False)
def drill_all(store: str | None = None) -> tuple[Proof, ...]:
    """Drill the newest backup of every library. A schedule starts this.

    A library that cannot be drilled does not stop the others; the run fails at its end. It also fails if a backup is
    not proven. A backup that cannot be compared (of another program) is no failure, nor is one that is encrypted and
    whose key is on another host.

    Args:
        store: The store whose copies are drilled. Default: the best copies.
    """
    request = DrillAllRequest(store=store)
    proofs = for_each(list(current().libraries), lambda library: _proven(library, request.store))
    return tuple(proof for proof in proofs if proof is not None)


def _proven(library: str, store: str | None) -> Proof | None:
    try:
        plan_drill(current(), DrillRequest(library=library, store=store))
    except KeyMissing as error:
        get_run_logger().warning("%s is not drilled here: %s", library, error)
        return None
    proof: Proof = drill(library=library, store=store).proof
    if proof.verdict == NOT_PROVEN:
        raise DamageFound("not proven", on=library, hint="; ".join(proof.differences))
    return proof
