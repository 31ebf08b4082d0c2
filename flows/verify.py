"""Verify: read stored copies back and compare every hash."""

from __future__ import annotations

from prefect import flow

from flows.runs import given, of_library, publish
from scriptorium.operations.verify import choose_copies, verify_each
from scriptorium.report.verify import verify_report
from scriptorium.requests import MaybeShare, Names, VerifyRequest
from scriptorium.results import VerifyResult
from scriptorium.settings import current
from scriptorium.workspace.containment import contained
from tasks.stores import verify_copy


def _name() -> str:
    parameters = given()
    what = (
        ", ".join(parameters["ids"])
        if "ids" in parameters
        else f"share {parameters['share']}"
        if "share" in parameters
        else "every copy"
    )
    return f"verify {what}{of_library()}{' in ' + parameters['store'] if 'store' in parameters else ''}"


@flow(name="verify", flow_run_name=_name, persist_result=False)
def verify(
    ids: Names = (), library: str | None = None, store: str | None = None, share: MaybeShare = None
) -> VerifyResult:
    """Read copies back and compare every hash.

    Damage is a result, not an error: the caller decides. A copy that cannot be read does not stop the others; the run
    fails at its end.

    Args:
        ids: The backups. Default: all of them.
        library: Only backups of this library.
        store: Only copies in this store.
        share: N/T verifies the N-th of T shares, so that T runs read everything: of each copy where its store can
            read a share of it, else of the backups.
    """
    request = VerifyRequest(**locals())
    chosen = choose_copies(current(), request)
    with contained():
        result = verify_each(chosen, verify_copy)
    publish(verify_report(result, request.library))
    return result.require_every_copy_read()
