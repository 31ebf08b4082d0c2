"""A walk over a tree by descriptors, for trees of any depth and paths of any length; no link is followed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from scriptorium.fs.descriptors import Descent, folder_at


@dataclass(frozen=True, slots=True)
class Folder:
    """``path``: below the top, ``""`` for the top itself. ``descriptor``: valid until the next folder is read."""

    path: str
    descriptor: int
    folders: tuple[str, ...]
    others: tuple[str, ...]

    def inside(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def walk(top: Path, *, leaving: Callable[[str, int], None] | None = None) -> Iterator[Folder]:
    """Every folder from the top down; ``others`` is everything in it that is not a folder. ``leaving`` is called with
    the path and the descriptor of a folder when everything below it was walked."""
    with folder_at(top) as root, closing(Descent(root)) as descent:
        here = _read("", descent.descriptor)
        yield here
        waiting = [(here.path, list(reversed(here.folders)))]
        while waiting:
            path, folders = waiting[-1]
            if folders:
                name = folders.pop()
                here = _read(f"{path}/{name}" if path else name, descent.enter(os.fsencode(name)))
                yield here
                waiting.append((here.path, list(reversed(here.folders))))
                continue
            if leaving is not None:
                leaving(path, descent.descriptor)
            waiting.pop()
            if waiting:
                descent.leave()


def _read(path: str, descriptor: int) -> Folder:
    with os.scandir(descriptor) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    folders = tuple(name for name, folder in found if folder)
    return Folder(path, descriptor, folders, tuple(name for name, folder in found if not folder))
