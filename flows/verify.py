"""Verify: read stored copies back and compare every hash."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from flows.conduct import given, of_library, publish
from scriptorium import wording
from scriptorium.catalog import Catalog
from scriptorium.checking import Checked, choose_copies
from scriptorium.process import no_child_outlives
from scriptorium.settings import current
from tasks.stores import verify_copy


def _name() -> str:
    said = given()
    what = ", ".join(said["ids"]) if "ids" in said else f"share {said['share']}" if "share" in said else "every copy"
    return f"verify {what}{of_library()}{' in ' + said['store'] if 'store' in said else ''}"


@flow(name="verify", flow_run_name=_name, persist_result=False)
def verify(
    ids: list[str] | None = None,
    library: str | None = None,
    store: str | None = None,
    share: str | None = None,
) -> tuple[Checked, ...]:
    """Verify the copies of the named backups, or of all of them.

    ``share``: ``N/T`` verifies the N-th of T shares, so that T runs read everything. Damage is a result, not an error:
    the caller decides.
    """
    with no_child_outlives():
        chosen = choose_copies(Catalog(current()), ids or (), library=library, store=store, share=share)
        checked = tuple(Checked(backup, copy, verify_copy(backup.id, copy)) for backup, copy in chosen)
    _report(checked, library or "all")
    return checked


def _report(checked: Sequence[Checked], library: str) -> None:
    damaged = sum(not one.verification.sound for one in checked)
    facts = {"verdict": f"{damaged} damaged" if damaged else "sound", "copies read": str(len(checked))}
    rows = [
        {
            "backup": one.backup.name,
            "id": one.backup.id,
            "store": one.copy.store,
            "size": wording.size(one.copy.bytes),
            "took": wording.duration(one.verification.seconds),
            "verdict": "sound" if one.verification.sound else "; ".join(one.verification.damage[:5]),
        }
        for one in checked
    ]
    publish("verify", library, "Verification of stored copies", facts, rows)
