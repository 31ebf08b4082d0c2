"""What is sent to a remote, tree by tree: only what our walk saved, under names that rclone and the remote take.

What an earlier backup has already is copied by the remote itself, where it can do that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium.errors import NoSpace, NotFound, ScriptoriumError, StoreRefused, StoreUnavailable
from scriptorium.members.selection import encoded
from scriptorium.progress import Advance
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.rclone.earlier import Earlier
from scriptorium.stores.trees.rclone.files import Stored
from scriptorium.stores.trees.rclone.layout import CONTENTS
from scriptorium.stores.trees.rclone.names import is_plain, number_name
from scriptorium.stores.trees.rclone.program import Rclone
from scriptorium.stores.trees.record import Line, tree_of

log = logging.getLogger(__name__)

_FROM_DISK = ("--copy-links", "--local-no-check-updated")


@dataclass(slots=True)
class Sending:
    """``folder``: for lists and links on this disk. ``renamed``: the members that get a number instead of their name.
    ``trouble``: why something may be missing there."""

    program: Rclone
    package: TreePackage
    folder: Path
    renamed: dict[str, str] = field(default_factory=dict)
    trouble: ScriptoriumError | None = None

    @property
    def stored(self) -> Stored:
        return Stored(self.program, self.package.manifest.library, self.package.label, self.renamed)

    def copy_there(self, earlier: Earlier) -> None:
        if earlier.same:
            listing = self._listing("same", earlier.same)
            source, target = self.program.at(*earlier.folder), self.stored.at(CONTENTS)
            self._transfer("copy", *self._compare, f"--files-from-raw={listing}", source, target)

    def send(self, earlier: Earlier, advance: Advance | None) -> None:
        trees: dict[int, list[Line]] = {}
        odd: list[Line] = []
        twins: set[str] = set()
        for line in self.package.lines():
            path = line.entry.path
            if line.entry.kind != "file":
                continue
            if self._is_odd(line, twins):
                odd.append(line)
            elif path not in earlier.same:
                trees.setdefault(line.tree or 0, []).append(line)
        for number, lines in trees.items():
            self._send_tree(number, lines, advance)
        self.send_renamed(odd, advance)

    def _is_odd(self, line: Line, twins: set[str]) -> bool:
        path = line.entry.path
        if not is_plain(path) or not is_plain(tree_of(line, self.package.places).on_disk(path)):
            return True
        if not self.program.abilities.caseless:
            return False
        folded = path.casefold()
        known = folded in twins
        twins.add(folded)
        return known

    def _send_tree(self, number: int, lines: Sequence[Line], advance: Advance | None) -> None:
        place = self.package.places[number]
        if place.single:
            target = self.stored.at(CONTENTS, lines[0].entry.path)
            self._transfer("copyto", *_FROM_DISK, *self._compare, place.root, target, advance=advance)
            return
        top = len(place.at) + 1 if place.at else 0
        listing = self._listing(f"tree-{number}", (line.entry.path[top:] for line in lines))
        target = self.stored.at(CONTENTS, place.at)
        words = ("copy", *_FROM_DISK, *self._compare, f"--files-from-raw={listing}", place.root, target)
        self._transfer(*words, advance=advance)

    def send_renamed(self, lines: Sequence[Line], advance: Advance | None = None) -> None:
        """Under numbers: a folder of links has the names that are sent."""
        if not lines:
            return
        links = self.folder / f"links-{len(self.renamed)}"
        (links / "renamed").mkdir(parents=True, exist_ok=True)
        for line in lines:
            path = line.entry.path
            name = self.renamed.setdefault(path, number_name(len(self.renamed) + 1))
            link = links / name
            link.unlink(missing_ok=True)
            link.symlink_to(os.fsdecode(encoded(tree_of(line, self.package.places).on_disk(path))))
        self._transfer("copy", *_FROM_DISK, "--ignore-times", str(links), self.stored.at(), advance=advance)

    @property
    def _compare(self) -> tuple[str, ...]:
        """How rclone knows what an interrupted put brought: where the remote gives no hashes, by size and time; what
        is wrong then is found when it is read back."""
        return ("--checksum",) if self.stored.hash else ()

    def _listing(self, name: str, paths: Iterable[str]) -> Path:
        listing = self.folder / f"{name}.list"
        with listing.open("wb") as file:
            file.writelines(encoded(path) + b"\n" for path in paths)
        return listing

    def _transfer(self, *words: str, advance: Advance | None = None) -> None:
        """What could not be copied is found when it is compared; then this is why."""
        try:
            self.program.transfer(*words, advance=advance)
        except NoSpace:
            raise
        except (StoreUnavailable, StoreRefused, NotFound) as error:
            log.warning("%s", error)
            self.trouble = error
