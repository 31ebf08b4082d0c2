"""Restore: into a folder, or over the living data with a safety backup first."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.backup import backup
from flows.conduct import publish
from scriptorium import wording
from scriptorium.bringing import RestoreOrder, place_restore
from scriptorium.model import Backup
from scriptorium.process import no_child_outlives
from scriptorium.rescue import Restored
from scriptorium.settings import current
from tasks.restore import preflight
from tasks.restore import restore as bring


def _name() -> str:
    given = flow_run.parameters
    return f"restore {given.get('reference')} {'to ' + given['path'] if given.get('path') else 'in place'}"


@flow(name="restore", flow_run_name=_name, persist_result=False)
def restore(
    reference: str,
    library: str | None = None,
    path: str | None = None,
    only: list[str] | None = None,
    store: str | None = None,
    rebuild: bool = False,
    clean: bool = False,
    safety: bool = True,
) -> Restored:
    """Restore a backup (id, prefix, name or ``latest``).

    ``path``: into this folder; without one the living data is replaced, after a verified safety backup (tier
    ``before-restore``). ``only``: glob patterns over paths in the archive. ``rebuild``: make databases from their
    logical exports. ``clean``: ``path`` may hold something, which is replaced. ``safety``: false only for a library
    that has nothing left to save.
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
    )
    with no_child_outlives():
        preflight(order)
        saved = _save_first(order) if order.into is None and safety else None
        restored = bring(order)
    _report(order, restored, saved, time.monotonic() - began)
    return restored


def _save_first(order: RestoreOrder) -> Backup:
    return backup(
        library=order.library,
        tier="before-restore",
        description=f"before the restore of {order.backup}",
    )


def _report(order: RestoreOrder, restored: Restored, saved: Backup | None, seconds: float) -> None:
    facts = {
        "verdict": "equal to what was backed up",
        "backup": order.backup,
        "from": order.store,
        "to": restored.place,
        "safety backup": saved.id if saved else "none",
        "files": f"{restored.files:,} ({wording.size(restored.bytes)})",
        "took": wording.duration(seconds),
    }
    rows = [
        {"table": name, "rows": f"{table.rows:,}", "fingerprint": table.fingerprint[:24]}
        for name, table in sorted(restored.tables.items())
    ]
    publish("restore", order.library, f"Restore of {order.backup}", facts, rows)
