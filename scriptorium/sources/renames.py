"""Switching staged data in by renames, and back, from whatever point a crash left.

Everything happens inside one staging folder on the filesystem of the living data, so that a switch is a rename. It lies
beside the folder that is replaced, not in it, where that is possible (see ``anchors``): what an application packs and
counts as its own is not to hold what we put aside. It is ours alone (0700), and is not believed when it is not::

    .scriptorium-restore-<restore id>/
        scriptorium.json  says that the folder is ours
        incoming/         what the archive held
        former/           what was there before
        aside/            what appeared in a place that ``revert`` needed
        moves.json        the plan, on disk before the first rename

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
from typing import Any

from scriptorium import ours
from scriptorium.archive.access_lists import ACCESS, DEFAULT, AccessList
from scriptorium.archive.attributes import set_lists
from scriptorium.crashpoints import reach
from scriptorium.errors import RestoreFailed, Untrusted
from scriptorium.removal import remove_tree
from scriptorium.sources.mounts import mounted_in
from scriptorium.sources.previous import Kept, Previous, Whereabouts, fingerprint
from scriptorium.umask import make_folders

_RESTORE = f"{ours.PREFIX}restore-"


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


def anchors(replaced: Path) -> tuple[Path, ...]:
    """Where the staging folder for a living folder may lie, the best place first: beside it, else in it.

    Beside it only where a rename leads out of it (it is no mount of its own), and where we may write.
    """
    beside = replaced.parent
    mounted = Path(os.path.realpath(replaced)) in mounted_in(replaced)
    usable = beside.is_dir() and not mounted and beside != beside.parent and os.access(beside, os.W_OK | os.X_OK)
    same = usable and (not replaced.is_dir() or replaced.stat().st_dev == beside.stat().st_dev)
    return (beside, replaced) if same else (replaced, beside)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Facts:
    """The mode, owner and access lists of a folder, as the plan remembers them. ``lists``: in hexadecimal, ``""`` for
    none; plans of earlier versions say nothing of them."""

    mode: int
    uid: int
    gid: int
    lists: tuple[str, str] | None = None

    @classmethod
    def of(cls, folder: Path) -> _Facts:
        found = folder.stat()
        access, default = (_list(folder, name) for name in (ACCESS, DEFAULT))
        return cls(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, (access, default))

    def put_on(self, folder: Path) -> None:
        if os.geteuid() == 0:
            os.chown(folder, self.uid, self.gid)
        if self.lists is not None and self.lists != self.of(folder).lists:
            self._put_lists_on(folder, *self.lists)
        if stat.S_IMODE(folder.stat().st_mode) != self.mode:
            folder.chmod(self.mode)

    def _put_lists_on(self, folder: Path, access: str, default: str) -> None:
        """The group bits of the mode mean another thing with a list than without: nobody enters in between."""
        folder.chmod(self.mode & 0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            lists = [AccessList.of_kernel(bytes.fromhex(one)) if one else None for one in (access, default)]
            set_lists(descriptor, *lists)
        finally:
            os.close(descriptor)


def _list(folder: Path, name: str) -> str:
    try:
        return os.getxattr(folder, name).hex()
    except OSError:
        return ""


def _facts(row: Sequence[Any], at: int, lists: int) -> _Facts:
    """From a row of the plan: the numbers begin at ``at``."""
    mode, uid, gid = row[at : at + 3]
    return _Facts(mode, uid, gid, tuple(row[lists]) if len(row) > lists and row[lists] else None)


@dataclass(frozen=True, slots=True)
class StagingFolder:
    """The place beside living data where a restore prepares, and keeps what was there."""

    path: Path

    @classmethod
    def beside(cls, anchor: Path, mark: str) -> StagingFolder:
        """In ``anchor``, a folder on the filesystem of the living data. ``mark``: the restore's id, and what more makes
        it this part's own."""
        return cls(anchor / f"{_RESTORE}{mark}")

    @classmethod
    def in_one_of(cls, anchors: Sequence[Path], mark: str) -> StagingFolder:
        """In the first of the folders, but for one that is there already."""
        found = [cls.beside(anchor, mark) for anchor in anchors]
        return next((one for one in found if os.path.lexists(one.path)), found[0])

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
    def _id(self) -> str:
        return self.path.name.removeprefix(_RESTORE)[:12]

    def _require_ours(self) -> None:
        """What another user planted here is not carried out, nor removed as if it were ours."""
        why = ours.others_may_write(self.path) if os.path.lexists(self.path) else ""
        if why:  # the modes of what is in it do not matter: nobody else comes there
            raise Untrusted(
                f"the previous data is not where only we can write: {why}",
                on=str(self.path),
                hint="run this as the user who restored; if it was that user, look who made this folder",
            )

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
        ours.mark(self.path, self._id)
        self.incoming.mkdir(mode=0o700)
        self.former.mkdir(mode=0o700)
        sync_folder(self.path.parent)

    def remove(self) -> None:
        """Drop it with all that it holds; refuses while a switch is neither finished nor undone."""
        self._require_ours()
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
                [str(folder), *(was.mode, was.uid, was.gid, will.mode, will.uid, will.gid), was.lists, will.lists]
                for folder, was, will in facts
            ],
        }
        beside = self._plan.with_suffix(".partial")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            # json with ensure_ascii keeps the surrogates of names that are not UTF-8
            file.write(json.dumps(plan).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        reach("renames.before-plan")
        beside.rename(self._plan)
        sync_folder(self.path)
        reach("renames.planned")

    def _read_plan(self) -> tuple[list[Move], list[tuple[Path, _Facts, _Facts]]]:
        self._require_ours()
        if not self._plan.exists():
            return [], []
        plan = json.loads(self._plan.read_bytes())
        moves = [Move(Path(source), Path(target)) for source, target in plan["moves"]]
        return moves, [(Path(row[0]), _facts(row, 1, 7), _facts(row, 4, 8)) for row in plan["folders"]]

    def apply(self) -> None:
        """Carry the plan out, or what is left of it; folders that stay take the mode and owner of their like."""
        moves, folders = self._read_plan()
        arriving = {move.target: move.source for move in moves}
        touched: set[Path] = set()
        for move in moves:
            if not os.path.lexists(move.target):
                if not os.path.lexists(move.source):
                    raise RestoreFailed("something that was to be switched has vanished", on=str(move.source))
                make_folders(move.target.parent)
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
                self._put_aside(move.source, number)
            make_folders(move.source.parent)
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

    def _put_aside(self, path: Path, number: int) -> None:
        if not self._aside.exists():
            self._aside.mkdir(mode=0o700)
            ours.mark(self._aside, self._id)
        path.rename(self._aside / f"{number}-{path.name[-100:]}")

    def kept(self) -> Kept:
        """See ``Keeping``: the folder, each path that was put aside with what lies there now, and what came where
        nothing was."""
        moves, _ = self._read_plan()
        outgoing = [move for move in moves if move.target.is_relative_to(self.former)]
        replaced = {move.source for move in outgoing}
        came = [str(move.target) for move in moves if move not in outgoing and move.target not in replaced]
        rows = [[str(move.source), str(move.target), fingerprint(move.target)] for move in outgoing]
        return {"folder": str(self.path), "moves": rows, "came": came}

    def previous(self, kept: Kept) -> Previous:
        """See ``Keeping``."""
        if not kept:
            there = self.planned
            return Previous(Whereabouts.ASIDE if there else Whereabouts.BACK, "put aside" if there else "not recorded")
        folder, moves, came = Path(str(kept["folder"])), kept["moves"], kept["came"]
        assert isinstance(moves, list) and isinstance(came, list)
        if os.path.lexists(folder):
            StagingFolder(folder)._require_ours()
        aside, lost = 0, []
        for source, target, was in moves:
            if was is not None and fingerprint(Path(target)) == was:
                aside += 1
            elif was is None or fingerprint(Path(source)) != was:
                lost.append(str(source))
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            return Previous(Whereabouts.GONE, f"not what was put aside: {', '.join(lost[:3])}{more}")
        if aside or (not moves and os.path.lexists(folder)):
            return Previous(Whereabouts.ASIDE, f"in {folder}")
        left = [path for path in came if os.path.lexists(path)]
        if left and not moves:
            return Previous(Whereabouts.GONE, f"{left[0]} is there, which was not, and {folder} is gone")
        if left:
            return Previous(Whereabouts.GONE, f"{left[0]} is there, which was not")
        return Previous(Whereabouts.BACK, "what was there before, by names, sizes and times")

    def settle(self) -> None:
        """The switch stands: forget the plan and drop the former data."""
        self._require_ours()
        self._plan.unlink(missing_ok=True)
        sync_folder(self.path)
        self.remove()
