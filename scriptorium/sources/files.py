"""A tree of files, read where it lies.

There is no moment that a tree of files shares with itself: each file is read once, and one that changes or vanishes
while it is read is named in the backup's warnings. What belongs to a database must be a source of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from scriptorium.archive import select, survey
from scriptorium.errors import NotFound, RestoreFailed
from scriptorium.model import Holder, Part, Role, Staged, Survey, TableFacts, Tree
from scriptorium.sources.open_files import holders_of
from scriptorium.sources.renames import Move, StagingFolder


class FilesSource(BaseModel):
    """``path``: a folder (or one file). ``at``: its path in the archive, by default the source's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["files"] = "files"
    name: str = Field(default="files", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    path: Path
    at: str | None = None
    role: Role = Role.FILES
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The path of the tree in the archive."""
        return self.name if self.at is None else self.at

    @property
    def quiesce(self) -> None:
        """Files are read where they lie; nothing is paused for them."""
        return None

    def tree(self, never: tuple[Path, ...] = ()) -> Tree:
        return Tree(
            root=str(self.path),
            at=self.place,
            include=self.include,
            exclude=self.exclude,
            never=tuple(str(path) for path in never),
        )

    def survey(self, never: tuple[Path, ...]) -> Survey:
        self._require()
        return survey([self.tree(never)])

    def _require(self) -> None:
        if not self.path.exists():
            raise NotFound("the folder does not exist", on=str(self.path), hint=f"see 'path' of the source {self.name}")

    def capture(self, stage: Path, *, paused: bool = False) -> None:
        self._require()

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        now = datetime.now(UTC)
        return Staged(
            source=self.name,
            kind=self.kind,
            path=self.place,
            method="read in place",
            started_at=now,
            finished_at=now,
            trees=(self.tree(never),),
        )

    def holders(self) -> Iterator[Holder]:
        """Open files of a tree do not stand in the way of a switch by rename."""
        yield from ()

    def writers(self) -> Iterator[Holder]:
        """Processes that have something below the folder open."""
        yield from holders_of([self.path])

    def incoming(
        self,
        part: Part,
        restore_id: str,
        *,
        into: Path | None = None,
        rebuild: bool = False,
        partial: bool = False,
    ) -> FilesIncoming | FilesElsewhere:
        return FilesElsewhere(part, into) if into else FilesIncoming(self, part, restore_id, partial=partial)


class FilesElsewhere:
    """Files that go into a folder as the archive has them; nothing living is there to be switched."""

    def __init__(self, part: Part, into: Path) -> None:
        self._part = part
        self._into = into

    def prepare(self) -> None: ...

    def receive(self, member: str) -> Path | None:
        return None if _below(member, self._part.path) is None else self._into / member

    def load(self) -> Mapping[str, TableFacts] | None:
        return None

    def switch(self) -> None: ...

    def undo(self) -> None: ...

    def finish(self) -> None: ...


class FilesIncoming:
    """Files on their way back: staged inside the folder itself, so that every switch is a rename.

    What the source does not select (excluded, or never entered) stays as it is; what it selects is replaced.
    """

    def __init__(self, source: FilesSource, part: Part, restore_id: str, *, partial: bool = False) -> None:
        self._source = source
        self._partial = partial
        self._part = part
        self._root = source.path
        self._single = source.path.is_file()
        anchor = self._root.parent if self._single else self._root
        self._staging = StagingFolder.beside(anchor, restore_id)

    def prepare(self) -> None:
        self._staging.path.parent.mkdir(parents=True, exist_ok=True)
        self._staging.create()

    def receive(self, member: str) -> Path | None:
        inside = _below(member, self._part.path)
        if inside is None:
            return None
        return self._staging.incoming / inside if inside else self._staging.incoming

    def load(self) -> Mapping[str, TableFacts] | None:
        return None

    def switch(self) -> None:
        self._staging.write_plan(
            list(self._overlay("") if self._partial and not self._single else self._moves(self._chosen()))
        )
        self._staging.apply()

    def _chosen(self) -> set[str]:
        found = select(self._source.tree((self._staging.path,)), lambda _: None)
        return {inside for one in found if (inside := _below(one.path, self._source.place))}

    def _overlay(self, folder: str) -> Iterator[Move]:
        """Only what came back is put in its place; folders that are there already are gone into."""
        for name in sorted(_names(self._staging.incoming / folder)):
            inside = f"{folder}/{name}" if folder else name
            old, new = self._root / inside, self._staging.incoming / inside
            if _is_folder(new) and _is_folder(old):
                yield from self._overlay(inside)
                continue
            if os.path.lexists(old):
                _same_filesystem(old, self._staging.path)
                yield Move(old, self._staging.former / inside)
            yield Move(new, old)

    def _moves(self, chosen: set[str]) -> Iterator[Move]:
        if self._single:
            yield Move(self._root, self._staging.former / self._root.name)
            yield Move(self._staging.incoming, self._root)
            return
        above = {step for path in chosen for step in _folders_above(path)}
        yield from self._moves_of("", chosen, above)

    def _moves_of(self, folder: str, chosen: set[str], above: set[str]) -> Iterator[Move]:
        living, arriving = self._root / folder, self._staging.incoming / folder
        for name in sorted(_names(living) | _names(arriving)):
            inside = f"{folder}/{name}" if folder else name
            old, new = living / name, arriving / name
            concerned = inside in chosen or inside in above or os.path.lexists(new)
            if old == self._staging.path or not concerned:
                continue
            if _is_folder(old) and self._keeps_something(old, chosen):
                if os.path.lexists(new) and not _is_folder(new):
                    raise RestoreFailed("a folder that is not part of the backup is in the way of a file", on=str(old))
                yield from self._moves_of(inside, chosen, above)
                continue
            if os.path.lexists(old):
                _same_filesystem(old, self._staging.path)
                yield Move(old, self._staging.former / inside)
            if os.path.lexists(new):
                yield Move(new, old)

    def _keeps_something(self, folder: Path, chosen: set[str]) -> bool:
        """Whether anything in or below a living folder is not selected, so that it has to stay."""
        for here, folders, files in os.walk(folder):
            inside = Path(here).relative_to(self._root).as_posix()
            if inside not in chosen or any(f"{inside}/{name}" not in chosen for name in (*folders, *files)):
                return True
        return False

    def undo(self) -> None:
        if self._staging.path.exists():
            self._staging.revert()
            self._staging.remove()

    def finish(self) -> None:
        if self._staging.path.exists():
            self._staging.settle()


def _below(member: str, at: str) -> str | None:
    """The path of a member relative to a part, ``""`` for the part's root itself, ``None`` outside."""
    if not at:
        return member
    if member == at:
        return ""
    return member[len(at) + 1 :] if member.startswith(f"{at}/") else None


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if _is_folder(folder) else set()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _folders_above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _same_filesystem(living: Path, staging: Path) -> None:
    if living.lstat().st_dev != staging.stat().st_dev:
        raise RestoreFailed(
            "this is a filesystem of its own and cannot be switched by a rename",
            on=str(living),
            hint="name it as a source of its own",
        )
