"""Switching staged data in by renames, and back, from whatever point a crash left.

Everything happens inside one staging folder on the filesystem of the living data::

    .scriptorium-restore-<restore id>/
        incoming/       what the archive held
        former/         what was there before
        moves.json      the plan, on disk before the first rename

Every step moves one path to a place where nothing is, so the state of each can be read off the disk: a step
is done when its source is gone and its target is there. That makes ``apply`` and ``revert`` repeatable.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import RestoreFailed


@dataclass(frozen=True, slots=True)
class Move:
    """One rename; both paths absolute."""

    source: Path
    target: Path


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class StagingFolder:
    """The place beside living data where a restore prepares, and keeps what was there."""

    path: Path

    @classmethod
    def beside(cls, anchor: Path, restore_id: str) -> StagingFolder:
        """In ``anchor``, a folder on the filesystem of the living data."""
        return cls(anchor / f".scriptorium-restore-{restore_id}")

    @property
    def incoming(self) -> Path:
        return self.path / "incoming"

    @property
    def former(self) -> Path:
        return self.path / "former"

    @property
    def _plan(self) -> Path:
        return self.path / "moves.json"

    @property
    def planned(self) -> bool:
        """Whether a switch began that is neither finished nor undone."""
        return self._plan.exists()

    def create(self) -> None:
        """Make it, empty. One that holds former data is never emptied: ``RestoreFailed``."""
        if self.path.exists():
            self.remove()
        self.incoming.mkdir(parents=True, mode=0o700)
        self.path.chmod(0o700)
        self.former.mkdir(mode=0o700)
        sync_folder(self.path.parent)

    def remove(self) -> None:
        """Drop it with all that it holds; refuses while a switch is neither finished nor undone."""
        if self._plan.exists():
            raise RestoreFailed(
                "a former restore was neither finished nor undone", on=str(self.path), hint="restore --undo goes back"
            )
        shutil.rmtree(self.path, ignore_errors=False)
        sync_folder(self.path.parent)

    def write_plan(self, moves: Sequence[Move]) -> None:
        """Record the plan, durably, before the first rename."""
        rows = [[_text(move.source), _text(move.target)] for move in moves]
        beside = self._plan.with_suffix(".partial")
        with beside.open("wb") as file:
            file.write(json.dumps(rows).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self._plan)
        sync_folder(self.path)

    def _moves(self) -> list[Move]:
        if not self._plan.exists():
            return []
        rows = json.loads(self._plan.read_bytes())
        return [Move(Path(source), Path(target)) for source, target in rows]

    def apply(self) -> None:
        """Carry the plan out, or what is left of it."""
        touched: set[Path] = set()
        for move in self._moves():
            if os.path.lexists(move.source) and not os.path.lexists(move.target):
                move.target.parent.mkdir(parents=True, exist_ok=True)
                move.source.rename(move.target)
                touched |= {move.source.parent, move.target.parent}
            elif not os.path.lexists(move.target):
                raise RestoreFailed("something that was to be switched has vanished", on=str(move.source))
        for folder in touched:
            sync_folder(folder)

    def revert(self) -> None:
        """Put everything back where it was; does nothing where nothing was moved."""
        touched: set[Path] = set()
        for move in reversed(self._moves()):
            if os.path.lexists(move.target) and not os.path.lexists(move.source):
                move.source.parent.mkdir(parents=True, exist_ok=True)
                move.target.rename(move.source)
                touched |= {move.source.parent, move.target.parent}
        for folder in touched:
            if folder.exists():
                sync_folder(folder)
        self._plan.unlink(missing_ok=True)

    def settle(self) -> None:
        """The switch stands: forget the plan and drop the former data."""
        self._plan.unlink(missing_ok=True)
        sync_folder(self.path)
        self.remove()


def _text(path: Path) -> str:
    # json with ensure_ascii keeps the surrogates of names that are not UTF-8
    return str(path)
