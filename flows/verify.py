"""Verify: read stored copies back and compare every hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import flow

from flows.runs import given, of_library, publish
from scriptorium import wording
from scriptorium.catalog import Catalog
from scriptorium.errors import StoreUnavailable
from scriptorium.operations.verify import Checked, choose_copies
from scriptorium.process import no_child_outlives
from scriptorium.report.runs import Report
from scriptorium.settings import current
from scriptorium.umask import private_files
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
    the caller decides. A copy that cannot be read keeps no other from being verified; the run fails at its end.
    """
    checked: list[Checked] = []
    silent: dict[str, StoreUnavailable] = {}
    with no_child_outlives(), private_files():
        for backup, copy in choose_copies(Catalog(current()), ids or (), library=library, store=store, share=share):
            try:
                checked.append(Checked(backup, copy, verify_copy(backup.id, copy)))
            except StoreUnavailable as error:
                silent[f"{backup.id} in {copy.store}"] = error
    _report(checked, library or "all", silent)
    if len(silent) == 1 and not checked:
        raise next(iter(silent.values()))
    if silent:
        raise _unread(checked, silent)
    return tuple(checked)


def _unread(checked: Sequence[Checked], silent: Mapping[str, StoreUnavailable]) -> StoreUnavailable:
    damaged = [one.backup.id for one in checked if not one.verification.sound]
    others = f"damaged among the others: {', '.join(damaged)}" if damaged else "the others are sound"
    return StoreUnavailable(
        f"{len(silent)} of {len(silent) + len(checked)} copies could not be read; {others}",
        on="; ".join(f"{copy}: {error}" for copy, error in silent.items()),
        hint=next(iter(silent.values())).hint,
    )


def _report(checked: Sequence[Checked], library: str, silent: Mapping[str, StoreUnavailable]) -> None:
    damaged = sum(not one.verification.sound for one in checked)
    summary = {"verdict": f"{damaged} damaged" if damaged else "sound", "copies read": str(len(checked))}
    if silent:
        summary["could not be read"] = "; ".join(f"{copy}: {error}" for copy, error in silent.items())
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
    publish(Report("verify", library, "Verification of stored copies", summary, rows))
