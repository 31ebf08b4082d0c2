"""Replace living data by staged data with renames, and undo that, from any point at which a crash left it.

Everything happens in one staging folder on the filesystem of the living data, so that a switch is a rename. If possible
(see ``anchors``), this folder is beside the folder that is replaced, not in it: an application must not save and count
the previous data as its own. Only we may write to it (0700); it is not used if others may::

    .scriptorium-restore-<restore id>/
        scriptorium.json  says that the folder is ours
        incoming/         what the backup contains
        former/           the previous data
        aside/            displaced: what appeared in a place that ``revert`` needed
        moves.json        the plan, written to disk before the first rename

Every step moves one path to a name that does not exist. So the disk shows the state of each step: it is done if its
source is missing and its target exists. So ``apply`` and ``revert`` can be repeated.

The owner of the library may rename and link anything in it at any time, while this runs as root. So the staging folder
is held open and recognised by its marker, not by its name. Only paths in it or in ``within`` are renamed. No symbolic
link in a path to living data is followed (``Places``).
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import RestoreFailed, Untrusted
from scriptorium.failpoints import reach
from scriptorium.fs import atomic, ours
from scriptorium.fs.folder_attributes import FolderAttributes, folder_attributes
from scriptorium.fs.mounts import mounted_in
from scriptorium.fs.places import Places
from scriptorium.fs.previous import Kept, Previous, Whereabouts, fingerprint, whereabouts
from scriptorium.fs.removal import empty
from scriptorium.fs.walking import walk
from scriptorium.umask import users_folders

log = logging.getLogger(__name__)

_RESTORE = f"{ours.PREFIX}restore-"
_PREVIOUS, _DISPLACED = "former", "aside"  # the names on disk since the first version


@dataclass(frozen=True, slots=True)
class Move:
    """One rename; both paths absolute."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class AttributeCopy:
    """A living folder that stays, and the folder whose mode, owner and access lists it gets."""

    folder: Path
    like: Path


def anchors(replaced: Path) -> tuple[Path, ...]:
    """The folders in which the staging folder for a living folder may be, the best one first: beside it, else in it.

    Beside it only if a rename can move it (it is not a mount), and if we may write there.
    """
    beside = replaced.parent
    mounted = Path(os.path.realpath(replaced)) in mounted_in(replaced)
    usable = beside.is_dir() and not mounted and beside != beside.parent and os.access(beside, os.W_OK | os.X_OK)
    same = usable and (not replaced.is_dir() or replaced.stat().st_dev == beside.stat().st_dev)
    return (beside, replaced) if same else (replaced, beside)


class StagingFolder:
    """The folder beside living data where a restore prepares new data and keeps the previous data. ``within``: the
    living data that it may move, with everything below; by default everything in the folder that contains it."""

    def __init__(self, path: Path, within: Sequence[Path] = ()) -> None:
        self.path = path
        self._within = tuple(within) or (path.parent,)
        self._descriptor = -1
        self._reached: Places | None = None

    @classmethod
    def beside(cls, anchor: Path, suffix: str, within: Sequence[Path] = ()) -> StagingFolder:
        """The one in ``anchor``, a folder on the filesystem of the living data. ``suffix``: the restore's id, and the
        part."""
        return cls(anchor / f"{_RESTORE}{suffix}", within)

    @classmethod
    def in_one_of(cls, anchors: Sequence[Path], suffix: str, within: Sequence[Path] = ()) -> StagingFolder:
        """The one that exists already, else one in the first of the folders."""
        found = [cls.beside(anchor, suffix, within) for anchor in anchors]
        return next((one for one in found if os.path.lexists(one.path)), found[0])

    def __del__(self) -> None:
        self._release()

    @property
    def incoming(self) -> Path:
        return self.path / "incoming"

    @property
    def previous(self) -> Path:
        return self.path / _PREVIOUS

    @property
    def _displaced(self) -> Path:
        return self.path / _DISPLACED

    @property
    def _id(self) -> str:
        return self.path.name.removeprefix(_RESTORE)[:12]

    @property
    def _plan(self) -> Path:
        return self.path / "moves.json"

    @property
    def there(self) -> bool:
        """Whether it exists, whatever its name is now."""
        if self._descriptor >= 0:
            return os.fstat(self._descriptor).st_nlink > 0
        return os.path.lexists(self.path)

    @property
    def planned(self) -> bool:
        """Whether a switch has begun and is neither finished nor undone."""
        return self.there and self.places.there(self._plan)

    @property
    def reverted(self) -> bool:
        """Whether ``revert`` was completed: the new data is out of the living data again, and nothing is put aside. The
        plan may still be there: its removal is the last step."""
        return self.there and self._holds(self.incoming) and not self._holds(self.previous) and self._nothing_moved()

    def _nothing_moved(self) -> bool:
        """Whether every step of the plan is undone, or there is none."""
        there = self.places.there
        moves, _ = self._read_plan()
        outgoing = [move for move in moves if move.target.is_relative_to(self.previous)]
        return not any(there(move.target) for move in outgoing) and all(
            there(move.source) for move in moves if move not in outgoing
        )

    def _holds(self, folder: Path) -> bool:
        held = self.held(folder)
        return held.is_dir() and any(found.others for found in walk(held))

    @property
    def places(self) -> Places:
        """Opens paths in it and in the living data: see the module. ``Untrusted`` if it is not ours."""
        if self._reached is None:
            with closing(Places()) as outside, outside.folder(self.path) as found:
                self._require_ours(found)
                self._descriptor = os.dup(found)
            self._reached = Places(self.path, self._descriptor)
        self._require_ours(self._descriptor)
        return self._reached

    def held(self, path: Path) -> Path:
        """A path for other programs to something in it. It is valid while we run, also after renames."""
        self.places  # noqa: B018 -- opens it
        return Path(f"/proc/{os.getpid()}/fd/{self._descriptor}", path.relative_to(self.path))

    def _require_ours(self, folder: int) -> None:
        """Refuse a folder that another user put here: it is neither used nor removed."""
        why = ours.others_may_write(self.path, os.fstat(folder))
        if not why and not ours.has_marker(folder, self.path.name):
            why = "it does not have the marker of this restore"
        if why:  # the modes of its contents do not matter: nobody else can enter it
            raise Untrusted(
                f"the previous data is not in a place where only we can write: {why}",
                on=str(self.path),
                hint="run this as the user who restored; if you are that user, find out who made this folder",
            )

    def _release(self) -> None:
        if self._reached is not None:
            self._reached.close()
            os.close(self._descriptor)
        self._reached, self._descriptor = None, -1

    def create(self) -> None:
        """Make it, empty. One that holds previous data is never emptied: ``RestoreFailed``."""
        if self.there:
            self.remove()
        with closing(Places()) as outside:
            with users_folders():
                outside.make_folders(self.path.parent, 0o777)
            with outside.folder(self.path.parent) as parent:
                os.mkdir(self.path.name, 0o700, dir_fd=parent)
                places = self.places
                os.fchmod(self._descriptor, 0o700)
                if os.listdir(self._descriptor):  # noqa: PTH208 -- a descriptor, not a path
                    raise Untrusted("somebody has put another folder in its place", on=str(self.path))
                ours.write_marker(self._descriptor, self._id)
                places.make_folders(self.incoming, 0o700)
                places.make_folders(self.previous, 0o700)
                os.fsync(parent)

    def remove(self) -> None:
        """Remove it with everything in it; ``RestoreFailed`` while a switch is neither finished nor undone."""
        if self.places.there(self._plan):
            raise RestoreFailed(
                "an earlier restore was neither finished nor undone",
                on=str(self.path),
                hint="the next run of this library rolls it back",
            )
        empty(self._descriptor, last=ours.MARKER)
        with closing(Places()) as outside, outside.folder(self.path.parent) as parent:
            with suppress(FileNotFoundError):  # somebody moved it: an empty folder is left
                os.rmdir(self.path.name, dir_fd=parent)
            os.fsync(parent)
        self._release()

    def write_plan(self, moves: Sequence[Move], copies: Sequence[AttributeCopy] = ()) -> None:
        """Record the plan, durably, before the first rename. ``copies``: see ``apply``."""
        places = self.places
        attributes = [
            (one.folder, FolderAttributes.of(places.itself(one.folder)), FolderAttributes.of(places.itself(one.like)))
            for one in copies
        ]
        plan = {
            "moves": [[str(move.source), str(move.target)] for move in moves],
            "folders": [
                [str(folder), *(was.mode, was.uid, was.gid, will.mode, will.uid, will.gid), was.lists, will.lists]
                for folder, was, will in attributes
            ],
        }
        with atomic.beside(self.held(self._plan)) as partial:
            with atomic.new_file(partial) as file:
                file.write(json.dumps(plan).encode("ascii"))  # keeps the surrogates of names that are not UTF-8
            reach("renames.before-plan")
        reach("renames.planned")
        log.info("%s: a switch by %d renames is planned", self.path, len(moves))

    def _read_plan(self) -> tuple[list[Move], list[tuple[Path, FolderAttributes, FolderAttributes]]]:
        if not self.places.there(self._plan):
            return [], []
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._plan.name, flags, dir_fd=self._descriptor), "rb") as file:
            plan = json.loads(file.read())
        moves = [Move(Path(source), Path(target)) for source, target in plan["moves"]]
        folders = [
            (Path(row[0]), folder_attributes(row, 1, 7), folder_attributes(row, 4, 8)) for row in plan["folders"]
        ]
        for path in (*(path for move in moves for path in (move.source, move.target)), *(row[0] for row in folders)):
            self._require_within(path)
        return moves, folders

    def _is_within(self, path: Path) -> bool:
        return ".." not in path.parts and any(path.is_relative_to(place) for place in (self.path, *self._within))

    def _require_within(self, path: Path) -> None:
        if not self._is_within(path):
            raise Untrusted(
                "the plan of the switch names a path outside the living data of its source",
                on=str(path),
                hint=f"nothing was done: find out who wrote {self._plan}, and whether the source has another path",
            )

    def apply(self) -> None:
        """Carry out the plan, or the steps that are not done; then set the attributes of the folders that stay."""
        moves, folders = self._read_plan()
        places = self.places
        arriving = {move.target: move.source for move in moves}
        touched: set[Path] = set()
        for move in moves:
            if not places.there(move.target):
                if not places.there(move.source):
                    raise RestoreFailed("something that was to be switched is gone", on=str(move.source))
                self._move(move.source, move.target)
                reach("renames.moved")
                touched |= {move.source.parent, move.target.parent}
            elif places.there(move.source) and places.there(arriving.get(move.source, move.source)):
                # the step is not done, and no later step put this there
                raise RestoreFailed("something has appeared while it was being switched", on=str(move.target))
        for folder, _, will in folders:
            will.put_on(places.itself(folder))
            reach("renames.attributes-set")
        for folder in touched:
            places.sync(folder)
        log.info("%s: the new data is in place; the previous data is kept here", self.path)

    def _move(self, source: Path, target: Path) -> None:
        with users_folders():
            self.places.make_folders(target.parent, 0o777)
        self.places.rename(source, target)

    def revert(self) -> None:
        """Move everything back to where it was; does nothing if nothing was moved.

        If something has appeared in the place of previous data (the application was started in between), it is not
        lost: it is kept beside the living data in ``.scriptorium-aside-*``.
        """
        moves, folders = self._read_plan()
        places = self.places
        self._require_plan(moves)
        touched: set[Path] = set()
        lost = []
        for number, move in enumerate(reversed(moves)):
            outgoing = move.target.is_relative_to(self.previous)
            if not places.there(move.target):
                if outgoing and not places.there(move.source):
                    lost.append(str(move.source))
                continue
            if places.there(move.source):
                if not outgoing:
                    continue  # this step had not begun
                self._displace(move.source, number)
            self._move(move.target, move.source)
            reach("renames.moved-back")
            touched |= {move.source.parent, move.target.parent}
        for folder, was, _ in folders:
            if _is_folder(places.lstat(folder)):
                was.put_on(places.itself(folder))
        for folder in touched:
            if places.there(folder):
                places.sync(folder)
        if lost:
            raise RestoreFailed("previous data is gone", on=", ".join(lost[:3]), hint=f"see {self.path}")
        self._keep_displaced()
        reach("renames.all-back")
        log.info("%s: the previous data is in its place (%d renames in the plan)", self.path, len(moves))
        self._forget_plan()

    def _keep_displaced(self) -> None:
        if self.places.there(self._displaced):
            displaced = self.path.with_name(self.path.name.replace("restore", "aside", 1))
            self.places.rename(self._displaced, displaced)
            log.warning("%s: what had appeared in the place of previous data is kept here", displaced)

    def _require_plan(self, moves: Sequence[Move]) -> None:
        """``RestoreFailed`` if the plan is gone and there is previous data: it must not be removed."""
        if not moves and self._holds(self.previous):
            raise RestoreFailed("the plan of the switch is gone; previous data is left", on=str(self.previous))

    def _forget_plan(self) -> None:
        with suppress(FileNotFoundError):
            self.places.unlink(self._plan)

    def _displace(self, path: Path, number: int) -> None:
        if not self.places.there(self._displaced):
            self.places.make_folders(self._displaced, 0o700)
            with self.places.folder(self._displaced) as folder:
                ours.write_marker(folder, self._id)
        self.places.rename(path, self._displaced / f"{number}-{path.name[-100:]}")

    def kept(self) -> Kept:
        """See ``Keeping``: the folder; each path that is or will be put aside, with its fingerprint; each path that is
        new."""
        moves, _ = self._read_plan()
        outgoing = [move for move in moves if move.target.is_relative_to(self.previous)]
        replaced = {move.source for move in outgoing}
        came = [str(move.target) for move in moves if move not in outgoing and move.target not in replaced]
        rows = [[str(move.source), str(move.target), self._outgoing(move)] for move in outgoing]
        return {"folder": str(self.path), "moves": rows, "came": came}

    def _outgoing(self, move: Move) -> str | None:
        if self.places.there(move.target):
            return fingerprint(self.held(move.target))
        if not self.places.there(move.source):
            raise RestoreFailed("something that was to be switched is gone", on=str(move.source))
        # opened through its folder, as the move does
        return fingerprint(self.places.itself(move.source.parent) / move.source.name)

    def find_previous(self, kept: Kept) -> Previous:
        """See ``Keeping``."""
        if not kept:
            there = self.planned
            return Previous(Whereabouts.ASIDE if there else Whereabouts.BACK, "put aside" if there else "not recorded")
        staging = StagingFolder(Path(str(kept["folder"])))
        aside = staging.there and (staging.planned or staging._holds(staging.previous))
        return whereabouts(kept, staging.held if aside else None, self._is_within)

    def settle(self) -> None:
        """The switch is final: remove the plan and the previous data."""
        self._forget_plan()
        os.fsync(self._descriptor)
        self.remove()


def _is_folder(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISDIR(found.st_mode)
