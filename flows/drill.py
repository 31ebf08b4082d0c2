"""Drill: restore a backup into a scratch place and compare it, so that it is proven and not hoped for."""

from __future__ import annotations

from prefect import flow

from flows.runs import for_each, given, of_library, publish
from scriptorium import wording
from scriptorium.errors import DamageFound
from scriptorium.model import NOT_PROVEN, Proof
from scriptorium.operations.drill import DrillOrder, place_drill
from scriptorium.process import no_child_outlives
from scriptorium.report.runs import Report
from scriptorium.settings import current
from scriptorium.umask import private_files
from tasks.drill import drill as rehearse


def _name() -> str:
    return f"drill {given().get('reference', 'latest')}{of_library()}"


@flow(name="drill", flow_run_name=_name, persist_result=False)
def drill(reference: str = "latest", library: str | None = None, store: str | None = None) -> Proof:
    """Drill a backup (id, prefix, name or ``latest``), from the named store or the best copy.

    A difference is a result, not an error: the caller looks at ``proven``.
    """
    with no_child_outlives(), private_files():
        order = place_drill(current(), reference, library=library, store=store)
        proof = rehearse(order)
    _report(order, proof)
    return proof


@flow(name="drill-all", flow_run_name="drill every library", persist_result=False)
def drill_all(store: str | None = None) -> tuple[Proof, ...]:
    """Drill the newest backup of every library: what a schedule starts.

    One that cannot be drilled does not keep the others from it; the run fails at its end, also when a backup is not
    proven; what it cannot be compared with (a backup of another program) is no failure.
    """
    return for_each(list(current().libraries), lambda library: _proven(library, store))


def _proven(library: str, store: str | None) -> Proof:
    proof = drill(library=library, store=store)
    if proof.verdict == NOT_PROVEN:
        raise DamageFound("not proven", on=library, hint="; ".join(proof.differences))
    return proof


def _report(order: DrillOrder, proof: Proof) -> None:
    summary = {
        "verdict": wording.verdict(proof.verdict),
        "backup": f"{order.backup.name} ({order.backup.id})",
        "from": proof.store,
        "time to recover": wording.duration(proof.seconds),
        "age of the data": wording.duration(proof.age_seconds),
        "files compared": f"{proof.files:,} ({wording.size(proof.bytes)})",
        "tables compared": f"{proof.tables:,} with {proof.rows:,} rows",
        "not compared": "; ".join(proof.uncompared) or "nothing that came",
        "differences": "; ".join(proof.differences) or "none",
        **({"not kept": proof.unkept} if proof.unkept else {}),
    }
    rows = [
        {
            "check": check.name,
            "verdict": "good" if check.good else "broken",
            "cases": str(check.count),
            "first": ", ".join(check.first),
        }
        for check in proof.checks
    ]
    publish(Report("drill", order.backup.library, f"Drill of {order.backup.name}", summary, rows))
