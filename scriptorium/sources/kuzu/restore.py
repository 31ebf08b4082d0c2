"""Restores a Kuzu database: it is staged beside the living one, opened, compared, and switched in by renames.

A database with the WAL or the shadow file of another state loses data or crashes the engine. So these files are
switched together with it: the previous ones are kept with the previous database and put back with it, and those of the
backup are restored with its database.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from scriptorium.errors import RestoreFailed
from scriptorium.fs.attributes import give, held_open
from scriptorium.fs.owners import AS_RECORDED, Ownership
from scriptorium.fs.places import real_path
from scriptorium.fs.previous import Kept, Previous
from scriptorium.fs.switch import Move, StagingFolder, anchors
from scriptorium.model import Part, Rows, TableFingerprint
from scriptorium.sources.kuzu import export as kuzu_export
from scriptorium.sources.kuzu import reader
from scriptorium.sources.kuzu.layout import COMPANIONS, companion
from scriptorium.sources.kuzu.memory import SHARE

log = logging.getLogger(__name__)


class KuzuIncoming:
    """One database that is restored to ``target``; ``suffix`` makes its staging folder its own.
    ``scratch``: the target lies in a folder of ours, and so does what is staged. ``ownership``: of a rebuilt one."""

    def __init__(
        self,
        part: Part,
        target: Path,
        suffix: str,
        *,
        engine: Path | None,
        rebuild: bool,
        statements: Mapping[str, str] | None = None,
        share: float = SHARE,
        scratch: bool = False,
        ownership: Ownership = AS_RECORDED,
    ) -> None:
        if rebuild and part.export is None:
            raise RestoreFailed(
                "the backup holds no logical export of this database",
                on=part.source,
                hint="restore the raw copy instead",
            )
        self._part = part
        self._target = real_path(target)
        self._engine = engine
        self._rebuild = rebuild
        self._statements = statements or {}
        self._share = share
        self.answers: Mapping[str, Rows] = {}
        self.missing_fingerprints: Mapping[str, str] = {}
        self._suffix = suffix
        self._scratch = scratch
        self._ownership = ownership
        self._staging = self._find()

    def _find(self) -> StagingFolder:
        """Beside the folder of the database, because the application packs and counts that folder; else inside it."""
        folder = self._target.parent
        within = (self._target, *self._companions())
        return StagingFolder.in_one_of((folder,) if self._scratch else anchors(folder), self._suffix, within)

    @property
    def _new(self) -> Path:
        return self._staging.incoming / self._target.name

    @property
    def _export(self) -> Path:
        return self._staging.path / "export"

    def prepare(self) -> None:
        self.undo()  # a crashed restore may have left the only copy of the previous data
        self._staging = self._find()
        self._staging.create()

    def receive(self, member: str) -> Path | None:
        if self._rebuild:
            return _below(member, str(self._part.export), self._export)
        for ending in COMPANIONS:
            if member == f"{self._part.path}{ending}":
                return companion(self._new, ending)
        return _below(member, self._part.path, self._new)

    def load(self) -> Mapping[str, TableFingerprint] | None:
        """Import the export if the database is to be rebuilt; then have the new database read, which changes nothing.

        If too little memory is available to read it, its bytes are still those that were packed; the tables are then in
        ``missing_fingerprints``.
        """
        if self._rebuild:
            log.info("%s: the database is made from its logical export", self._part.source)
            self._build()
        try:
            found = reader.read(self._held(), engine=self._engine, share=self._share, statements=self._statements)
        except reader.Unreadable as verdict:
            raise RestoreFailed(f"the restored database cannot be read: {verdict}", on=self._part.source) from verdict
        except reader.Unread as hindrance:
            found = reader.unread(hindrance, self._engine)
        self.answers, self.missing_fingerprints = found.answers, found.missing
        return found.tables

    def _held(self) -> Path:
        """A path to the new database for the programs that make and read it; it stays valid if the library's owner
        renames folders meanwhile."""
        return self._staging.held(self._new)

    def _build(self) -> None:
        try:
            export = self._staging.held(self._export)
            kuzu_export.build(export, self._held(), engine=self._engine, share=self._share)
        except (reader.Unreadable, reader.Unread) as trouble:
            raise RestoreFailed(
                f"the export cannot be imported: {trouble}",
                on=self._part.source,
                hint="restore the raw copy instead",
            ) from trouble

    def plan(self) -> Kept:
        """Write the plan of the switch; nothing is moved."""
        places = self._staging.places
        if not places.there(self._new):
            raise RestoreFailed("the backup brought no database", on=self._part.path)
        self._take_previous_attributes()
        moves = []
        for path in (self._target, *self._companions()):
            if places.there(path):
                moves.append(Move(path, self._staging.previous / path.name))
        for ending in COMPANIONS:  # before the database itself: `undo` checks that one
            if places.there(new := companion(self._new, ending)):
                moves.append(Move(new, companion(self._target, ending)))
        self._staging.write_plan([*moves, Move(self._new, self._target)])
        return self._staging.kept()

    def switch(self) -> None:
        if not self._staging.planned:
            self.plan()
        self._staging.apply()

    def _take_previous_attributes(self) -> None:
        """A rebuilt database has no mode and owner of its own: take the previous one's, unless one was chosen."""
        if not self._rebuild:
            return
        places, new = self._staging.places, self._held()
        previous = places.lstat(self._target)
        like = previous if previous is not None and stat.S_ISREG(previous.st_mode) else None
        owner = like or places.lstat(self._target.parent)
        if like is not None and new.is_file():
            within = places.itself(self._target.parent)
            with held_open(within / self._target.name) as previous_file, held_open(new) as made:
                give(previous_file, made)
        elif os.geteuid() == 0 and owner is not None:
            os.chown(new, owner.st_uid, owner.st_gid)
        if self._ownership.given is not None and new.is_file():
            os.chown(new, *self._ownership.given)

    def _companions(self) -> list[Path]:
        return [companion(self._target, ending) for ending in COMPANIONS]

    def undo(self) -> None:
        if self._staging.planned or not self.returned():
            self.put_back()
        if self._staging.there:
            self._staging.remove()

    def returned(self) -> bool:
        return self._staging.reverted

    def put_back(self) -> None:
        if not self._staging.there:
            return
        places = self._staging.places
        if self._staging.planned and not places.there(self._new):
            # It was switched in, and perhaps opened since: files beside it then do not belong to the previous database.
            for path in self._companions():
                if places.there(path):
                    places.rename(path, self._staging.incoming / path.name)
        self._staging.revert()

    def kept(self) -> Kept:
        return self._staging.kept()

    def previous(self, kept: Kept) -> Previous:
        return self._staging.find_previous(kept)

    def finish(self) -> None:
        if self._staging.there:
            self._staging.settle()


def _below(member: str, at: str, place: Path) -> Path | None:
    if member == at:
        return place
    return place / member[len(at) + 1 :] if member.startswith(f"{at}/") else None
