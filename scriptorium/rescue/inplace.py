"""Restoring in place: everything is made ready and compared beside the living data, then switched by renames.

A journal in the workroom names the restore before the first switch. Whoever comes next (``recover``) reads it and puts
back what was there, or, where all parts were switched and only tidying was left, finishes the tidying.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.errors import LibraryBusy, NotFound, RestoreFailed, ScriptoriumError
from scriptorium.model import Part
from scriptorium.rescue.reading import Advance, Restored, Supply, load_parts, part_of, read_parts
from scriptorium.settings import Library, Settings
from scriptorium.sources import Incoming, Source
from scriptorium.workspace import require_space, room


def preflight(library: Library, supply: Supply) -> Mapping[str, Source]:
    """Everything that can be known to stand in the way, before anything is touched.

    ``LibraryBusy`` names the process that holds living data open; ``NotFound`` a part without a source in the settings;
    ``NoSpace``. Returns the sources of the parts that will be restored, by name.
    """
    sources: dict[str, Source] = {}
    known: dict[str, Source] = {source.name: source for source in library.sources}
    for part in _wanted(supply):
        source = known.get(part.source)
        if source is None or source.kind != part.kind or source.place != part.path:
            raise NotFound(
                f"the settings of {library.name} have no such source any more",
                on=f"{part.source} ({part.kind}, {part.path or 'top'})",
                hint="restore to a folder: --restore-path DIR",
            )
        sources[part.source] = source
    holders = [holder for source in sources.values() for holder in source.holders()]
    if holders:
        raise LibraryBusy(
            f"the application is running: {'; '.join(str(holder) for holder in holders[:3])}",
            on=library.name,
            hint="stop it, restore, start it again; or restore to a folder with --restore-path",
        )
    return sources


def _wanted(supply: Supply) -> tuple[Part, ...]:
    """The parts of which at least something is to be restored."""
    if not supply.only:
        return supply.manifest.parts
    entries = supply.manifest.files.entries
    if entries is None:
        return supply.manifest.parts
    owners = {part_of(entry.path, supply.manifest.parts) for entry in entries if supply.wants(entry.path)}
    chosen = tuple(part for part in supply.manifest.parts if part in owners)
    if not chosen:
        raise NotFound("nothing in the backup matches", on=", ".join(supply.only))
    return chosen


def restore_in_place(
    settings: Settings, library: Library, supply: Supply, restore_id: str, *, advance: Advance | None = None
) -> Restored:
    """Replace the living data by a backup. On any failure what was there is there again, and the error is raised."""
    sources = preflight(library, supply)
    parts = [part for part in supply.manifest.parts if part.source in sources]
    incoming = {
        part.source: sources[part.source].incoming(part, restore_id, rebuild=supply.rebuild, partial=bool(supply.only))
        for part in parts
    }
    journal = _Journal.open(settings, library.name, supply, restore_id, parts)
    try:
        restored = _carry_out(settings, supply, parts, incoming, journal, advance)
    except BaseException as error:
        _undo(incoming, error)
        journal.close()
        raise
    for one in incoming.values():
        one.finish()
    journal.close()
    return restored


def _carry_out(
    settings: Settings,
    supply: Supply,
    parts: list[Part],
    incoming: Mapping[str, Incoming],
    journal: _Journal,
    advance: Advance | None,
) -> Restored:
    for one in incoming.values():
        one.prepare()
    roots = [root for root in (incoming[part.source].receive(part.path) for part in parts) if root is not None]
    folders = sorted({_folder(root) for root in roots})
    for folder in folders:
        require_space(folder, sum(part.bytes for part in parts), "the restore")
    read = read_parts(supply, incoming, folders, advance=advance)
    tables = load_parts(supply, incoming, read.parts)
    journal.mark("switching")
    for source in read.parts:
        incoming[source].switch()
    journal.mark("switched")
    return Restored("in place", read.files, read.bytes, tables, read.parts)


def _folder(root: Path) -> Path:
    """The staging folder that a part's root lies in: the nearest one above it that exists."""
    while not root.is_dir():
        root = root.parent
    return root


def _undo(incoming: Mapping[str, Incoming], error: BaseException) -> None:
    """Put everything back; what cannot be put back is said with where it lies, never swallowed."""
    failures = []
    for name, one in reversed(list(incoming.items())):
        try:
            one.undo()
        except (OSError, ScriptoriumError) as trouble:
            failures.append(f"{name}: {trouble}")
    if failures:
        raise RestoreFailed(
            "the restore failed and the former data could not be put back by itself",
            on="; ".join(failures),
            hint="it lies complete in the folders .scriptorium-restore-*/former beside the living data",
        ) from error


@dataclass(frozen=True, slots=True)
class _Journal:
    """One file a restore: which sources, which restore, how far."""

    file: Path
    facts: dict[str, object]

    @classmethod
    def open(cls, settings: Settings, library: str, supply: Supply, restore_id: str, parts: list[Part]) -> _Journal:
        folder = room(settings) / "restores"
        folder.mkdir(exist_ok=True, mode=0o700)
        rows = [{"source": p.source, "kind": p.kind, "path": p.path, "export": p.export} for p in parts]
        facts: dict[str, object] = {
            "library": library,
            "backup": supply.manifest.id,
            "restore": restore_id,
            "rebuild": supply.rebuild,
            "parts": rows,
        }
        journal = cls(folder / f"{library}-{restore_id}.json", facts)
        journal.mark("preparing")
        return journal

    def mark(self, state: str) -> None:
        beside = self.file.with_suffix(".partial")
        with beside.open("w", encoding="utf-8") as file:
            json.dump({**self.facts, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.file)

    def close(self) -> None:
        self.file.unlink(missing_ok=True)


def recover(settings: Settings, library: Library) -> tuple[str, ...]:
    """Undo (or, when all was switched, finish) restores of this library that were cut short. The lock must be held.

    Returns a line for each, for the run's report.
    """
    said = []
    for file in sorted((settings.workroom / "restores").glob(f"{library.name}-????????????.json")):
        facts = json.loads(file.read_bytes())
        known: dict[str, Source] = {source.name: source for source in library.sources}
        incoming = {
            row["source"]: known[row["source"]].incoming(
                _part_of_row(row), facts["restore"], rebuild=bool(facts["rebuild"])
            )
            for row in facts["parts"]
            if row["source"] in known
        }
        if facts["state"] == "switched":
            for one in incoming.values():
                one.finish()
            said.append(f"a restore of {facts['backup']} that was cut short after its switch was finished")
        else:
            _undo(incoming, RestoreFailed("cut short", on=facts["backup"]))
            said.append(f"a restore of {facts['backup']} that was cut short was undone")
        file.unlink()
    return tuple(said)


def _part_of_row(row: Mapping[str, str | None]) -> Part:
    never = datetime.fromtimestamp(0, UTC)
    return Part(
        source=str(row["source"]),
        kind=str(row["kind"]),
        path=str(row["path"]),
        bytes=0,
        files=0,
        started_at=never,
        finished_at=never,
        method="",
        export=row["export"],
    )
