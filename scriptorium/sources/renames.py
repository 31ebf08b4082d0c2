"""Switching staged data in by renames, and back, from whatever point a crash left.

Everything happens inside one staging folder on the filesystem of the living data::

    .scriptorium-restore-<restore id>/
        incoming/       what the archive held
        former/         what was there before
        aside/          what appeared in a place that ``revert`` needed
        moves.json      the plan, on disk before the first rename

Every step moves one path to a place where nothing is, so the state of each can be read off the disk: a step
is done when its source is gone and its target is there. That makes ``apply`` and ``revert`` repeatable.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.crashpoints import reach
from scriptorium.errors import RestoreFailed
from scriptorium.removal import remove_tree


@dataclass(frozen=True, slots=True)
class Move:
    """One rename; both paths absolute."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Dress:
    """A living folder that stays, and the one whose mode and owner it takes."""

    folder: Path
    like: Path


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Facts:
    """The mode and owner of a folder, as the plan remembers them."""

    mode: int
    uid: int
    gid: int

    @classmethod
    def of(cls, folder: Path) -> _Facts:
        found = folder.stat()
        return cls(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def put_on(self, folder: Path) -> None:
        if os.geteuid() == 0:
            os.chown(folder, self.uid, self.gid)
        if stat.S_IMODE(folder.stat().st_mode) != self.mode:
            folder.chmod(self.mode)


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
    def _aside(self) -> Path:
        return self.path / "aside"

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
        self.path.mkdir(parents=True, mode=0o700)
        self.path.chmod(0o700)
        self.incoming.mkdir(mode=0o700)
        self.former.mkdir(mode=0o700)
        sync_folder(self.path.parent)

    def remove(self) -> None:
        """Drop it with all that it holds; refuses while a switch is neither finished nor undone."""
        if self._plan.exists():
            raise RestoreFailed(
                "a former restore was neither finished nor undone",
                on=str(self.path),
                hint="the next run of this library goes back to what was there",
            )
        remove_tree(self.path)
        sync_folder(self.path.parent)

    def write_plan(self, moves: Sequence[Move], dresses: Sequence[Dress] = ()) -> None:
        """Record the plan, durably, before the first rename. ``dresses``: see ``apply``."""
        facts = [(one.folder, _Facts.of(one.folder), _Facts.of(one.like)) for one in dresses]
        plan = {
            "moves": [[str(move.source), str(move.target)] for move in moves],
            "folders": [
                [str(folder), was.mode, was.uid, was.gid, will.mode, will.uid, will.gid] for folder, was, will in facts
            ],
        }
        beside = self._plan.with_suffix(".partial")
        with beside.open("wb") as file:
            # json with ensure_ascii keeps the surrogates of names that are not UTF-8
            file.write(json.dumps(plan).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        reach("renames.before-plan")
        beside.rename(self._plan)
        sync_folder(self.path)
        reach("renames.planned")

    def _read_plan(self) -> tuple[list[Move], list[tuple[Path, _Facts, _Facts]]]:
        if not self._plan.exists():
            return [], []
        plan = json.loads(self._plan.read_bytes())
        moves = [Move(Path(source), Path(target)) for source, target in plan["moves"]]
        return moves, [(Path(row[0]), _Facts(*row[1:4]), _Facts(*row[4:7])) for row in plan["folders"]]

    def apply(self) -> None:
        """Carry the plan out, or what is left of it; folders that stay take the mode and owner of their like."""
        moves, folders = self._read_plan()
        arriving = {move.target: move.source for move in moves}
        touched: set[Path] = set()
        for move in moves:
            if not os.path.lexists(move.target):
                if not os.path.lexists(move.source):
                    raise RestoreFailed("something that was to be switched has vanished", on=str(move.source))
                move.target.parent.mkdir(parents=True, exist_ok=True)
                move.source.rename(move.target)
                reach("renames.moved")
                touched |= {move.source.parent, move.target.parent}
            elif os.path.lexists(move.source) and os.path.lexists(arriving.get(move.source, move.source)):
                # neither done, nor done and followed by what comes to the same place
                raise RestoreFailed("something has appeared while it was being switched", on=str(move.target))
        for folder, _, will in folders:
            will.put_on(folder)
            reach("renames.dressed")
        for folder in touched:
            sync_folder(folder)

    def revert(self) -> None:
        """Put everything back where it was; does nothing where nothing was moved.

        What stands in a place that former data needs (the application was started in between) is not lost: it is left
        beside the living data in ``.scriptorium-aside-*``.
        """
        moves, folders = self._read_plan()
        touched: set[Path] = set()
        lost = []
        for number, move in enumerate(reversed(moves)):
            outgoing = move.target.is_relative_to(self.former)
            if not os.path.lexists(move.target):
                if outgoing and not os.path.lexists(move.source):
                    lost.append(str(move.source))
                continue
            if os.path.lexists(move.source):
                if not outgoing:
                    continue  # this step had not begun
                self._aside.mkdir(exist_ok=True, mode=0o700)
                move.source.rename(self._aside / f"{number}-{move.source.name[-100:]}")
            move.source.parent.mkdir(parents=True, exist_ok=True)
            move.target.rename(move.source)
            reach("renames.moved-back")
            touched |= {move.source.parent, move.target.parent}
        for folder, was, _ in folders:
            if folder.is_dir():
                was.put_on(folder)
        for folder in touched:
            if folder.exists():
                sync_folder(folder)
        if lost:
            raise RestoreFailed("former data has vanished", on=", ".join(lost[:3]), hint=f"see {self.path}")
        if self._aside.exists():
            self._aside.rename(self.path.with_name(self.path.name.replace("restore", "aside", 1)))
        reach("renames.all-back")
        self._plan.unlink(missing_ok=True)

    def settle(self) -> None:
        """The switch stands: forget the plan and drop the former data."""
        self._plan.unlink(missing_ok=True)
        sync_folder(self.path)
        self.remove()
