"""A backup for stores whose tools read the parts where they lie: nothing is copied, only what was read is recorded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from scriptorium.members.selection import decoded, encoded
from scriptorium.members.sinks import MemberHeader
from scriptorium.model import FileEntry, Manifest, Staged, Tree
from scriptorium.progress import Advance
from scriptorium.stores.trees.record import MEMBERS, Line, Place, parse_lines

COPIED = "copied"  # the folder of a run in which the members of another copy lie unpacked


@dataclass(frozen=True, slots=True)
class TreePackaging:
    """One record for every store of trees."""

    @property
    def in_workspace(self) -> bool:
        return False

    def estimate(self, bytes: int, holes: int) -> int:
        return bytes - holes

    def adopted(self, archive: Path, manifest: Manifest) -> None:
        return None

    @contextmanager
    def packager(self, folder: Path, label: str) -> Iterator[TreePackager]:
        made = TreePackager(folder, label)
        with contextlib.closing(made):
            yield made


@dataclass(frozen=True, slots=True)
class TreePackage:
    """What was read, and where it lies. ``folder``: of the run; parts that were staged lie in it.

    ``contents``: the bytes of all files.
    """

    label: str
    manifest: Manifest
    folder: Path
    record: Path
    places: tuple[Place, ...]
    contents: int

    @property
    def bytes(self) -> int:
        return 0

    def check(self, *, advance: Advance | None = None) -> None:
        """There is no copy yet that could be read back."""
        return None

    def lines(self) -> Iterator[Line]:
        with self.record.open("rb") as file:
            yield from parse_lines(file)


class TreePackager:
    """Records every member, and the tree that it came from."""

    def __init__(self, folder: Path, label: str) -> None:
        self._folder, self._label = Path(os.path.realpath(folder)), label
        self._record = self._folder / f".{MEMBERS}"
        self._lines: BinaryIO = self._record.open("wb")
        self._places: dict[Tree, int] = {}
        self._made: list[Place] = []
        self._header: MemberHeader | None = None
        self._contents = 0

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the walk has raised it
            self._lines.close()

    @property
    def wants_contents(self) -> bool:
        return False

    def begin(self, draft: Manifest, staged: Sequence[Staged]) -> None:
        pass

    def member(self, member: MemberHeader) -> None:
        self._header = member

    def space(self) -> None:
        return None

    def filled(self, count: int) -> None:
        raise AssertionError("no space was offered")

    def write(self, data: memoryview) -> None:
        pass

    def end(self, entry: FileEntry) -> None:
        assert self._header is not None
        tree = self._number(self._header.tree) if self._header.tree is not None else None
        self._lines.write(Line.of(self._header, entry, tree).written())
        self._contents += entry.size

    def finish(self, manifest: Manifest, listing: Path | None) -> None:
        self._lines.flush()

    def package(self, manifest: Manifest) -> TreePackage:
        return TreePackage(self._label, manifest, self._folder, self._record, tuple(self._made), self._contents)

    def _number(self, tree: Tree) -> int:
        found = self._places.get(tree)
        if found is None:
            found = self._places[tree] = len(self._made)
            self._made.append(self._place(tree))
        return found

    def _place(self, tree: Tree) -> Place:
        root = decoded(os.path.realpath(encoded(tree.root)))
        inside, _, relative = root.partition(f"{self._folder}/")
        within = f"/{relative}" if not inside and relative else root  # what was staged has the same name in every run
        return Place(tree.at, root, within, single=os.path.isfile(encoded(root)))  # noqa: PTH113 -- bytes
