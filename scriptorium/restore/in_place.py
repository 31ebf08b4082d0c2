"""Restore in place: everything is prepared and compared beside the living data, then switched by renames.

The previous data is kept after the switch, so that ``undo`` can put it back; the journal records where it is.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from scriptorium.failpoints import reach
from scriptorium.fs.free_space import nearest_folder
from scriptorium.fs.previous import Keeping, Kept
from scriptorium.model import Part
from scriptorium.progress import Advance
from scriptorium.restore.journal import Journal, open_journal
from scriptorium.restore.preflight import Preflight, preflight_in_place, require_still
from scriptorium.restore.rollback import drop, drop_previous, put_back, require_idle
from scriptorium.restore.supply import Restored, Supply, compared, lacking, load_parts, read_parts, restore_warnings
from scriptorium.settings import Library, Settings
from scriptorium.sources import Incoming
from scriptorium.words import JournalState

log = logging.getLogger(__name__)

Healthy = Callable[[], None]


def restore_in_place(
    settings: Settings,
    library: Library,
    supply: Supply,
    restore_id: str,
    *,
    preflight: Preflight | None = None,
    healthy: Healthy | None = None,
    advance: Advance | None = None,
) -> Restored:
    """Replace the living data by a backup. After any failure the previous data is put back, and the error is raised.

    The library's lock must be held. ``preflight``: its result, if it was done before; conditions that may have changed
    are checked again. ``healthy`` is called after the switch; if it raises an error, the restore is rolled back.
    """
    if preflight is None:
        preflight = preflight_in_place(library, supply, restore_id)
    require_still(preflight, library, supply, restore_id)
    reach("restore.planned")
    known = {source.name: source for source in library.sources}
    parts = [part for part in supply.manifest.parts if part.source in preflight.sources]
    incoming: dict[str, Incoming] = {
        part.source: known[part.source].incoming(
            part,
            restore_id,
            options=supply.options,
            partial=bool(supply.only),
            never=settings.never_of(library, known[part.source]),
        )
        for part in parts
    }
    journal = open_journal(settings, library, supply, restore_id, parts)
    kept: dict[str, Kept] = {}
    try:
        reach("restore.journal-open")
        restored = _carry_out(library, supply, parts, incoming, journal, kept, healthy, advance)
    except BaseException as error:
        log.warning("the restore failed and is rolled back: %s", str(error) or type(error).__name__)
        makers = {source: partial(incoming.__getitem__, source) for source in incoming}
        put_back(makers, journal.keeping(kept).at(JournalState.SWITCHING if kept else JournalState.PREPARING), error)
        journal.close()
        raise
    for source, one in incoming.items():
        if source not in restored.parts:
            one.undo()
    reach("restore.before-previous-is-dropped")
    drop_previous(settings, library, datetime.now(UTC), keep=journal)
    if settings.keep_previous == 0 and drop(journal, library) and restored.previous == "kept":
        return dataclasses.replace(restored, previous="not kept")
    return restored


def _switch(source: str, one: Incoming, journal: Journal, kept: dict[str, Kept]) -> None:
    """Record the previous data before it is moved: an undo in another process compares with this record."""
    kept[source] = one.plan() if isinstance(one, Keeping) else {}
    journal.keeping(kept).enter(JournalState.SWITCHING)
    one.switch()
    log.info("%s: switched to the restored data", source)


def _carry_out(
    library: Library,
    supply: Supply,
    parts: list[Part],
    incoming: Mapping[str, Incoming],
    journal: Journal,
    kept: dict[str, Kept],
    healthy: Healthy | None,
    advance: Advance | None,
) -> Restored:
    for one in incoming.values():
        one.prepare()
        reach("restore.part-prepared")
    roots = [root for root in (incoming[part.source].receive(part.path) for part in parts) if root is not None]
    roots += [root for root in (incoming[p.source].receive(p.export) for p in parts if p.export) if root is not None]
    read = read_parts(supply, incoming, sorted({nearest_folder(root) for root in roots}), advance=advance)
    reach("restore.unpacked")
    loaded = load_parts(supply, incoming, read.parts)
    reach("restore.loaded")
    require_idle(library)  # again: it may have been started meanwhile
    for source in read.parts:
        reach("restore.before-switch")
        _switch(source, incoming[source], journal, kept)
    reach("restore.all-switched")
    kept |= {source: one.kept() for source in read.parts if isinstance(one := incoming[source], Keeping)}
    journal = journal.keeping(kept).enter(JournalState.SWITCHED)
    if healthy is not None:
        healthy()
    reach("restore.before-kept")
    journal.enter(JournalState.KEPT)
    there = any(one.get("moves") or one.get("replaced") is not None for one in kept.values())
    tables, comparison = compared(supply, incoming, loaded)
    warnings = restore_warnings(incoming, parts)
    previous: Literal["kept", "none was there"] = "kept" if there else "none was there"
    lacks = lacking(part for part in parts if part.source in read.parts)
    return Restored(
        "in place", read.files, read.bytes, tables, read.parts, warnings, comparison, previous, lacks, read.unset
    )
