"""Copy: backups from one store into another, without their sources."""

from __future__ import annotations

from prefect import flow

from flows.runs import given, of_library, publish
from scriptorium.operations.copy import copy_each
from scriptorium.operations.copy_plan import plan_copy
from scriptorium.report.copy import copy_report
from scriptorium.requests import LATEST, CopyRequest, Names
from scriptorium.results import CopyResult
from scriptorium.settings import current
from scriptorium.workspace.containment import contained
from tasks.stores import copy as make


def _name() -> str:
    parameters = given()
    what = "what is missing" if parameters.get("missing") else parameters.get("reference", LATEST)
    where = f" to {', '.join(parameters['to'])}" if "to" in parameters else ""
    return f"{'dry run: ' if parameters.get('dry_run') else ''}copy {what}{of_library()}{where}"


@flow(name="copy", flow_run_name=_name, persist_result=False)
def copy(
    reference: str = LATEST,
    library: str | None = None,
    to: Names = (),
    store: str | None = None,
    missing: bool = False,
    dry_run: bool = False,
) -> CopyResult:
    """Copy a backup into other stores, or all backups into the stores that lack them.

    Each copy is compared with its manifest on the way and checked where it arrived. One that fails does not stop the
    others; the run fails at its end.

    Args:
        reference: The backup: its id, 4 or more digits of it, its name, or latest.
        library: A name from the settings; needed for latest if there are several.
        to: The stores that get a copy. Default: those of its tier.
        store: The store whose copy is read. Default: the best copy.
        missing: Instead of one backup, all of them, into the stores of their tiers that have no good copy.
        dry_run: Only say what would be copied.
    """
    request = CopyRequest(**locals())
    plan = plan_copy(current(), request)
    with contained():
        result = copy_each(plan, make)
    publish(copy_report(result, request.library))
    return result.require_every_copy()
