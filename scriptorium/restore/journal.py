"""The journal of a restore in place: one small file in the workspace, so that the next run can put the data back.

States (``JournalState``): ``preparing``, ``switching`` and ``switched`` (interrupted: the next run rolls it back),
``kept`` (the restore succeeded; ``undo`` puts the previous data back), ``going-back`` (an undo; interrupted: the next
run finishes it), ``dropping`` (the previous data is being removed, and cannot be put back any more).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.errors import DamageFound, NoSpace, RestoreFailed, Untrusted
from scriptorium.fs import atomic
from scriptorium.fs.ours import others_may_write
from scriptorium.fs.previous import Kept
from scriptorium.manifest import decoded, encoded
from scriptorium.model import Part
from scriptorium.restore.supply import Supply
from scriptorium.settings import Library, Settings
from scriptorium.sources import Incoming, RestoreOptions, Source
from scriptorium.words import JournalState
from scriptorium.workspace import root

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal:
    """``fields``: the contents of the file, without the state."""

    file: Path
    fields: Mapping[str, object]
    state: JournalState

    @property
    def backup(self) -> str:
        return str(self.fields["backup"])

    @property
    def written_at(self) -> datetime:
        return datetime.fromtimestamp(self.file.stat().st_mtime, UTC)

    def enter(self, state: JournalState) -> Journal:
        """Record the state durably. ``NoSpace`` if the disk is full; the previous record is then unchanged."""
        try:
            atomic.write(self.file, encoded({**self.fields, "state": state}))  # before a rename that only it can undo
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise NoSpace(
                "there is no space for the journal of the restore", on=str(self.file.parent), hint="free some space"
            ) from error
        log.info("restore %s of %s: %s", self.fields["restore"], self.fields["library"], state)
        return Journal(self.file, self.fields, state)

    def close(self) -> None:
        self.file.unlink(missing_ok=True)

    @property
    def sources(self) -> Mapping[str, str]:
        """The sources of its parts, each with its kind."""
        rows = self.fields["parts"]
        assert isinstance(rows, list)
        return {str(row["source"]): str(row["kind"]) for row in rows}

    @property
    def kept(self) -> Mapping[str, Kept]:
        """By source, how the previous data is recognised; empty before the switch and in old journals."""
        found = self.fields.get("previous", {})
        assert isinstance(found, dict)
        return found

    def keeping(self, kept: Mapping[str, Kept]) -> Journal:
        """The same journal with ``kept``; ``enter`` writes it."""
        return Journal(self.file, {**self.fields, "previous": dict(kept)}, self.state)

    @property
    def undone(self) -> Mapping[str, str]:
        """By source, how far its undo came: ``found`` (its previous data was compared, and is being put back), ``back``
        (it was put back and compared; it may have been written to since then)."""
        found = self.fields.get("undone", {})
        assert isinstance(found, dict)
        return found

    def with_undone(self, source: str, how_far: str) -> Journal:
        """The same journal with this progress of a source's undo; ``enter`` writes it."""
        return Journal(self.file, {**self.fields, "undone": {**self.undone, source: how_far}}, self.state)

    @property
    def compares(self) -> bool:
        """Whether it records the previous data, so that an undo can compare. Journals of earlier versions do so only
        after the whole switch."""
        return self.state is JournalState.PREPARING or "previous" in self.fields

    def at(self, state: JournalState) -> Journal:
        """The same journal in that state; ``enter`` writes it."""
        return Journal(self.file, self.fields, state)

    def only(self, sources: Collection[str]) -> Journal:
        """The same journal with only the parts of these sources: the others are done."""
        rows = self.fields["parts"]
        assert isinstance(rows, list)
        parts = [row for row in rows if row["source"] in sources]
        kept = {source: one for source, one in self.kept.items() if source in sources}
        return Journal(self.file, {**self.fields, "parts": parts, "previous": kept}, self.state)

    def require_trusted(self) -> None:
        """``Untrusted`` if others may have written the journal: its renames are carried out by its reader."""
        why = others_may_write(self.file.parent) or others_may_write(self.file)
        if why:
            raise Untrusted(
                f"the journal of a restore is not used: {why}",
                on=str(self.file),
                hint="run this as the user who restored; if you are that user, find out who wrote this file",
            )

    def incoming(self, library: Library) -> dict[str, Incoming]:
        """The restore's parts, made again from the settings. ``RestoreFailed`` if a source is missing in the settings,
        ``Untrusted`` if others may have written the journal."""
        self.require_trusted()
        known: dict[str, Source] = {source.name: source for source in library.sources}
        rows = self.fields["parts"]
        assert isinstance(rows, list)
        for row in rows:
            if row["source"] not in known:
                raise RestoreFailed(
                    f"the settings of {library.name} no longer have '{row['source']}', whose previous data is kept",
                    on=str(self.file),
                    hint="put the source back into the settings",
                )
        options = RestoreOptions.chosen({"rebuild": bool(self.fields["rebuild"])})  # the others are in the rows
        return {
            row["source"]: known[row["source"]]
            .as_recorded(row.get("way", {}))
            .incoming(_part(row), str(self.fields["restore"]), options=options)
            for row in rows
        }


def open_journal(
    settings: Settings, library: Library, supply: Supply, restore_id: str, parts: Sequence[Part]
) -> Journal:
    """Write a new journal, before anything is changed."""
    folder = root(settings) / "restores"
    folder.mkdir(exist_ok=True, mode=0o700)
    atomic.sweep(folder, f"{library.name}-????????????.json", seconds=0)
    ways = {source.name: source.journal_record(supply.options) for source in library.sources}
    rows = [
        {"source": p.source, "kind": p.kind, "path": p.path, "export": p.export, "way": dict(ways[p.source])}
        for p in parts
    ]
    fields = {
        "library": library.name,
        "backup": supply.manifest.id,
        "restore": restore_id,
        "rebuild": supply.options.kuzu.rebuild,
        "parts": rows,
    }
    state = JournalState.PREPARING
    return Journal(folder / f"{library.name}-{restore_id}.json", fields, state).enter(state)


def journals(settings: Settings, library: str) -> Iterator[Journal]:
    """Every journal of a library, oldest first."""
    files = (settings.workspace_folder / "restores").glob(f"{library}-????????????.json")
    for file in sorted(files, key=lambda path: path.stat().st_mtime_ns):
        try:
            record = decoded(file.read_bytes(), "journal of a restore")
            state = record.word("state", JournalState)
            yield Journal(file, {name: value for name, value in record.raw.items() if name != "state"}, state)
        except (OSError, DamageFound) as error:
            raise RestoreFailed(
                "the journal of a restore cannot be read",
                on=str(file),
                hint="look for .scriptorium-restore-*/former near the living data, put it back, remove the journal",
            ) from error


def _part(row: Mapping[str, str | None]) -> Part:
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
