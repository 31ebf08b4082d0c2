"""Restores of files: into a folder as the archive has them, or over the living ones by renames."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from scriptorium.errors import RestoreFailed
from scriptorium.fs.kinds import is_file, is_folder
from scriptorium.fs.mounts import mounted_in
from scriptorium.fs.owners import AS_RECORDED, Ownership
from scriptorium.fs.places import real_path
from scriptorium.fs.previous import Kept, Previous
from scriptorium.fs.switch import AttributeCopy, Move, StagingFolder, anchors
from scriptorium.members import select
from scriptorium.members.patterns import compiled
from scriptorium.model import Part, Rows, TableFingerprint, Tree

log = logging.getLogger(__name__)


class FilesElsewhere:
    """Files that are restored into a folder as the archive has them; there is no living data to switch."""

    answers: Mapping[str, Rows] = MappingProxyType({})

    def __init__(self, part: Part, into: Path) -> None:
        self._part = part
        self._into = into

    def prepare(self) -> None: ...

    def receive(self, member: str) -> Path | None:
        return None if below(member, self._part.path) is None else self._into / member

    def load(self) -> Mapping[str, TableFingerprint] | None:
        return None

    def switch(self) -> None: ...

    def undo(self) -> None: ...

    def finish(self) -> None: ...


class FilesIncoming:
    """A restore of files in place: they are staged on the same filesystem, so that every switch is a rename.

    What the source does not select (excluded, or never entered) stays as it is. What it selects is replaced; with
    ``partial``, only the paths that were restored are. What the backup could not save stays as it is: a file that was
    not read must not be removed. ``suffix`` gives the staging folder a name of its own for this part. ``tree`` is what
    the source would save now, with what it must leave alone.
    """

    answers: Mapping[str, Rows] = MappingProxyType({})

    def __init__(
        self, tree: Tree, part: Part, suffix: str, *, partial: bool = False, ownership: Ownership = AS_RECORDED
    ) -> None:
        self._ownership = ownership
        self._tree = tree
        self._part = part
        self._suffix = suffix
        # If there are more than the manifest names, not all of them are known: then nothing is removed.
        self._partial = partial or part.unsaved_count > len(part.unsaved)
        self._kept = frozenset(inside for one in part.unsaved if (inside := below(one.path, part.path)) is not None)
        self._root = real_path(Path(tree.root))
        self._staging = self._find()

    def _find(self) -> StagingFolder:
        """The staging folder: an existing one, else a new one beside the restored path. If only part of a folder is
        saved, it is inside: nobody packs such a folder as a whole, and what is beside it is not the library's."""
        if self._tree.include and self._root.is_dir():
            return StagingFolder.in_one_of((self._root, self._root.parent), self._suffix, (self._root,))
        if not self._root.is_dir():
            return StagingFolder.in_one_of((self._root.parent, self._root), self._suffix, (self._root,))
        return StagingFolder.in_one_of(anchors(self._root), self._suffix, (self._root,))

    def prepare(self) -> None:
        self.undo()  # a crashed restore may have left the only copy of the previous data
        self._staging = self._find()
        self._staging.create()

    @property
    def _content(self) -> Path:
        """The restored root: a folder, or a file."""
        return self._staging.incoming / "content"

    def receive(self, member: str) -> Path | None:
        inside = below(member, self._part.path)
        if inside is None:
            return None
        return self._content / inside if inside else self._content

    def load(self) -> Mapping[str, TableFingerprint] | None:
        return None

    def plan(self) -> Kept:
        """Write the plan of the switch; nothing is moved."""
        new = self._arrived()
        copies: list[AttributeCopy] = []
        if self._kept:
            log.info("%s: %d entries that the backup could not save stay as they are", self._root, len(self._kept))
        if self._partial:
            log.info("%s: only what was restored is replaced, everything else stays", self._root)
        if self._keeps_root():
            moves = []
        elif not self._root.is_dir():
            moves = list(self._whole(new))
        elif not is_folder(new):
            raise RestoreFailed("a folder is where the backup has a file", on=str(self._root), hint="move it away")
        else:
            switch = _Switch(self._root, new, self._staging, self._chosen(), copies, self._kept, self._tree.exclude)
            moves = list(switch.moves())
            if not self._part.path:  # a part at the top has no member for its root: its kind is not recorded
                copies = [one for one in copies if one.folder != self._root]
        self._require_no_mounts(moves)
        self._staging.write_plan(moves, copies)
        return self._staging.kept()

    def switch(self) -> None:
        if not self._staging.planned:
            self.plan()
        self._staging.apply()

    def _keeps_root(self) -> bool:
        """Whether the root is one file that could not be read."""
        alone = "" if self._part.path else Path(self._tree.root).name
        return alone in self._kept and os.path.lexists(self._root) and not self._root.is_dir()

    def _arrived(self) -> Path:
        """The restored root. A part at the top of the archive has no member for it: a single file is in a folder."""
        if not self._part.path and self._part.files == 1 and not self._root.is_dir():
            alone = self._content / Path(self._tree.root).name
            if is_file(alone):
                return alone
        return self._content

    def _whole(self, new: Path) -> Iterator[Move]:
        """The root itself is replaced: a single file, or a folder that was lost."""
        if is_folder(new) and not self._part.path:
            came = self._staging.held(new)
            # its mode is not recorded; with a mode for us alone its application could not use it
            came.chmod(0o755)
            if self._ownership.given is not None:
                os.chown(came, *self._ownership.given)
            elif os.geteuid() == 0 and (like := self._staging.places.lstat(self._root.parent)) is not None:
                os.chown(came, like.st_uid, like.st_gid)
        if os.path.lexists(self._root):
            yield Move(self._root, self._staging.previous / self._root.name)
        yield Move(new, self._root)

    def _chosen(self) -> set[str] | None:
        """What the source would save of the living folder, relative to it: this is replaced. ``None``: only restored
        paths are replaced."""
        if self._partial:
            return None
        found = select(self._tree, lambda _: None)
        return {inside for one in found if (inside := below(one.path, self._tree.at)) and not self._is_kept(inside)}

    def _is_kept(self, inside: str) -> bool:
        """Whether the backup could not save this, or something above it."""
        return bool(self._kept) and any(step in self._kept for step in (inside, *_folders_above(inside)))

    def _require_no_mounts(self, moves: list[Move]) -> None:
        leaving = {move.source for move in moves if move.target.is_relative_to(self._staging.previous)}
        for point in mounted_in(self._root):
            if leaving & {point, *point.parents}:
                raise _mounted(point)
        for source in leaving:
            if source.lstat().st_dev != self._staging.path.stat().st_dev:
                raise _mounted(source)

    def undo(self) -> None:
        if self._staging.planned or not self.returned():
            self.put_back()
        if self._staging.there:
            self._staging.remove()

    def returned(self) -> bool:
        return self._staging.reverted

    def put_back(self) -> None:
        if self._staging.there:
            self._staging.revert()

    def kept(self) -> Kept:
        return self._staging.kept()

    def previous(self, kept: Kept) -> Previous:
        return self._staging.find_previous(kept)

    def finish(self) -> None:
        if self._staging.there:
            self._staging.settle()


class _Switch:
    """The renames that put ``new`` in the place of ``root``, if part of ``root`` has to stay."""

    def __init__(
        self,
        root: Path,
        new: Path,
        staging: StagingFolder,
        chosen: set[str] | None,
        copies: list[AttributeCopy],
        kept: frozenset[str],
        exclude: tuple[str, ...],
    ) -> None:
        self._root = root
        self._new = new
        self._staging = staging
        self._chosen = chosen or set()
        self._above = {step for path in self._chosen for step in _folders_above(path)}
        self._partial = chosen is None
        self._copies = copies
        self._kept = kept
        self._exclude = compiled(*exclude)

    def _left_alone(self, inside: str, old: Path) -> bool:
        """What the backup could not save stays as it is. A link to a folder that the source leaves out stays too: it
        leads to data that another source saves."""
        if inside in self._kept:
            return os.path.lexists(old)
        return old.is_symlink() and self._exclude.match(inside, True) and _leads_to_one(old)

    def moves(self, folder: str = "") -> Iterator[Move]:
        living, arriving = self._root / folder, self._new / folder
        if not self._partial and is_folder(arriving):
            self._copies.append(AttributeCopy(living, arriving))
        for name in sorted(_names(living) | _names(arriving)):
            inside = f"{folder}/{name}" if folder else name
            old, new = living / name, arriving / name
            came = os.path.lexists(new)
            if old == self._staging.path or not (came or inside in self._chosen or inside in self._above):
                continue
            if self._left_alone(inside, old):
                continue
            if is_folder(old) and self._stays(old, came):
                if came and not is_folder(new):
                    raise RestoreFailed("a folder that holds other things is in the way of a file", on=str(old))
                yield from self.moves(inside)
                continue
            if os.path.lexists(old):
                yield Move(old, self._staging.previous / inside)
            if came:
                yield Move(new, old)

    def _stays(self, folder: Path, came: bool) -> bool:
        """Whether anything in or below a living folder is not selected, so that it has to stay."""
        if self._partial:
            return came
        waiting = [folder]  # os.walk is recursive, once for each level
        while waiting:
            here = waiting.pop()
            inside = os.path.relpath(here, self._root)
            if inside not in self._chosen:
                return True
            with suppress(OSError), os.scandir(here) as entries:
                for entry in entries:
                    if f"{inside}/{entry.name}" not in self._chosen:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        return False


def below(member: str, at: str) -> str | None:
    """The path of a member relative to a part, ``""`` for the part's root itself, ``None`` outside."""
    if not at:
        return member
    if member == at:
        return ""
    return member[len(at) + 1 :] if member.startswith(f"{at}/") else None


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if is_folder(folder) else set()


def _leads_to_one(link: Path) -> bool:
    """Whether a symlink leads to a folder; a broken one does not, whatever the reason."""
    return os.path.isdir(link)  # noqa: PTH112 -- Path.is_dir raises where a name is too long


def _folders_above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _mounted(point: Path) -> RestoreFailed:
    return RestoreFailed(
        "this is a filesystem of its own and cannot be switched by a rename",
        on=str(point),
        hint="exclude it and name it as a source of its own, or unmount it for the restore",
    )
