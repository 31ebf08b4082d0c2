"""Files of a snapshot that restic returns, to be compared with what was read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from scriptorium.fs.removal import remove_tree
from scriptorium.members.selection import decoded, encoded
from scriptorium.stores.trees.package import TreePackage
from scriptorium.stores.trees.record import Line, tree_of
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.stores.trees.restic.targets import escaped


class ReturnedBySnapshot:
    """``words`` name the snapshot; ``folder``: for what is restored."""

    def __init__(self, program: Restic, package: TreePackage, words: Sequence[str], folder: Path) -> None:
        self._program, self._package, self._words, self._folder = program, package, words, folder

    def stream(self, line: Line) -> AbstractContextManager[IO[bytes]]:
        return self._program.stream("dump", *self._words, self._in_tool(line))

    @contextmanager
    def files(self, lines: Sequence[Line]) -> Iterator[Mapping[str, str]]:
        target = self._folder / "back"
        target.mkdir(mode=0o700)
        try:
            included = [f"--include={os.fsdecode(escaped(encoded(self._in_tool(line))))}" for line in lines]
            self._program.run("restore", *reversed(self._words), f"--target={target}", *included, within=None)
            top = decoded(os.fsencode(target))
            yield {line.entry.path: top + self._in_tool(line) for line in lines}
        finally:
            remove_tree(target)

    def _in_tool(self, line: Line) -> str:
        return tree_of(line, self._package.places).in_tool(line.entry.path)
