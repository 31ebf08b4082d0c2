"""Restore: into a folder, or over the living data with a safety backup first."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from prefect import flow

from flows.backup import backup
from flows.runs import given, of_library, publish
from scriptorium import wording
from scriptorium.errors import ScriptoriumError
from scriptorium.model import Backup, Tier
from scriptorium.operations.restore import (
    RestoreOrder,
    lacking_in_safety,
    nothing_to_save,
    place_restore,
    without_safety,
)
from scriptorium.process import no_child_outlives
from scriptorium.report.runs import Report
from scriptorium.requests import MaybeFolder, Names
from scriptorium.restore import Plan, Restored
from scriptorium.settings import current
from scriptorium.umask import private_files
from tasks.restore import preflight, preflight_undo
from tasks.restore import restore as bring
from tasks.restore import undo as undo_restore


def _name() -> str:
    said = given()
    where = f"to {said['path']}" if "path" in said else "in place"
    return f"restore {said['reference']}{of_library()} {where}"


@flow(name="restore", flow_run_name=_name, persist_result=False)
def restore(
    reference: str,
    library: str | None = None,
    path: MaybeFolder = None,
    only: Names = (),
    store: str | None = None,
    rebuild: bool = False,
    clean: bool = False,
    safety: bool = True,
    database: str = "",
    without_roles: bool = False,
    without_broken_constraints: bool = False,
) -> Restored:
    """Restore a backup into a folder, as one database under a new name, or over the living data.

    Before living data is replaced, a verified safety backup of it is taken (tier before-restore).

    Args:
        reference: The backup: its id, 4 or more digits of it, its name, or latest.
        library: A name from the settings; needed for latest where there are several.
        path: Into this folder; without it the living data is replaced.
        only: Glob patterns over paths in the archive, or a source by its name; everything when none is given.
        store: The store whose copy is read; the best copy when none is given.
        rebuild: Make Kuzu databases from their Parquet export.
        clean: The folder is replaced; in place, the living PostgreSQL database is replaced in one transaction.
        safety: Take a safety backup first; off only for data that is too broken to save.
        database: Restore one PostgreSQL database under this new name, beside the living one.
        without_roles: Also where roles or tablespaces that the database names are missing on the server.
        without_broken_constraints: Load all rows; constraints that they break are left out or hold for new rows only.
    """
    began = time.monotonic()
    settings = current()
    order = place_restore(
        settings,
        reference,
        library=library,
        into=Path(path) if path else None,
        only=only or (),
        store=store,
        rebuild=rebuild,
        clean=clean,
        database=database,
        without_roles=without_roles,
        without_broken_constraints=without_broken_constraints,
        safety=safety,
    )
    saved = None
    with no_child_outlives(), private_files():
        plan = preflight(order)
        if order.in_place and order.safety:
            saved = _save_first(order.library, f"before the restore of {order.backup}")
        restored = bring(order)
    restored = replace(restored, lacking=(*restored.lacking, *lacking_in_safety(settings, saved)))
    _report(order, plan, restored, saved, time.monotonic() - began)
    return restored


@flow(name="undo", flow_run_name=lambda: f"undo the last restore{of_library()}", persist_result=False)
def undo(library: str | None = None, safety: bool = True) -> str:
    """Undo the newest restore in place: put the previous data back, while it is kept.

    What is there now is backed up first, unless it is what a restore that was cut short left: of a mixture no backup
    is taken. Returns the id of the backup whose restore is undone.

    Args:
        library: A name from the settings; not needed when there is only one.
        safety: Take a safety backup first; off only for data that is too broken to save.
    """
    saved = None
    with no_child_outlives(), private_files():
        way = preflight_undo(library)
        if safety and not way.cut_short:
            saved = _save_first(way.library, f"before going back from the restore of {way.backup}")
        restored = undo_restore(way.library)
    summary = {"verdict": "the former data is back", "undone": restored, "safety backup": _said(saved)}
    publish(Report("undo", way.library, f"Undo of the restore of {restored}", summary, ()))
    return restored


def _save_first(library: str, why: str) -> Backup | None:
    """The safety backup: taken and verified, or the restore does not go on; none where nothing is left to save."""
    if nothing_to_save(current(), library):
        return None
    try:
        return backup(library=library, tier=Tier.BEFORE_RESTORE, description=why)
    except ScriptoriumError as error:
        raise without_safety(error) from error


def _said(saved: Backup | None) -> str:
    return "; ".join((saved.id, *lacking_in_safety(current(), saved))) if saved else "none"


def _report(order: RestoreOrder, plan: Plan, restored: Restored, saved: Backup | None, seconds: float) -> None:
    summary = {
        "verdict": "restored; every file has its recorded hash",
        "tables": restored.said,
        "backup": order.backup,
        "from": order.store,
        "to": restored.place,
        "safety backup": _said(saved),
        "lacking": "; ".join(restored.lacking) or "nothing",
        "files": f"{restored.files:,} ({wording.size(restored.bytes)})",
        "took": wording.duration(seconds),
        "warnings": "; ".join(restored.warnings[:20]) or "none",
        **{f"preflight, {row.what}": row.found for row in plan.rows},
    }
    rows = [
        {"table": name, "rows": f"{table.rows:,}", "fingerprint": table.fingerprint[:24]}
        for name, table in sorted(restored.tables.items())
    ]
    publish(Report("restore", order.library, f"Restore of {order.backup}", summary, rows))
