"""The remarks of a backup on its files: what could not be saved, and other warnings.

If there are very many, the first are kept by name and all are counted: a tree of a million unreadable files must fill
neither the memory nor the manifest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scriptorium.manifest import readable
from scriptorium.model import MOST_UNSAVED, Unsaved

log = logging.getLogger(__name__)

MOST_WARNINGS = 1_000
_LOGGED = 20  # of each source; the manifest has more


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about one member. ``lost``: it exists, and the backup does not have it as it was."""

    path: str
    text: str
    lost: bool = False

    def __str__(self) -> str:
        return f"{readable(self.path)}: {self.text}"


class Remarks:
    """The remarks on one part after another."""

    def __init__(self) -> None:
        self._source = ""
        self._lost: dict[str, list[Unsaved]] = {}
        self._lost_count: dict[str, int] = {}
        self._warnings: list[str] = []
        self._count = 0
        self._left: dict[str, tuple[str, int]] = {}

    def leave(self, path: str, what: Iterable[str]) -> None:
        """Something besides the contents that is not kept: the first member is named, all are counted."""
        for one in what:
            first, count = self._left.get(one, (path, 0))
            if count or len(self._left) < MOST_WARNINGS:
                self._left[one] = (first, count + 1)

    def begin(self, source: str) -> None:
        """What follows is about this source."""
        self._source = source

    def add(self, remark: Remark) -> None:
        if not remark.lost:
            self._count += 1
            if len(self._warnings) < MOST_WARNINGS:
                self._warnings.append(str(remark))
            return
        self._lost_count[self._source] = self._lost_count.get(self._source, 0) + 1
        named = self._lost.setdefault(self._source, [])
        if len(named) < MOST_UNSAVED:
            named.append(Unsaved(self._source, remark.path, remark.text))
        if self._lost_count[self._source] <= _LOGGED:
            log.warning("%s: not saved: %s", self._source, remark)

    def unsaved(self, source: str) -> tuple[Unsaved, ...]:
        """What of the source could not be saved, the first of them by name."""
        return tuple(self._lost.get(source, ()))

    def unsaved_count(self, source: str) -> int:
        return self._lost_count.get(source, 0)

    @property
    def count(self) -> int:
        """How many remarks there were on something that was saved nevertheless."""
        return self._count

    def losses(self) -> Iterator[str]:
        """A line for each thing that could not be saved."""
        for source, named in self._lost.items():
            yield from (f"{readable(one.path)}: {one.reason}" for one in named)
            if more := self._lost_count[source] - len(named):
                yield f"{source}: {more:,} more could not be saved"

    def warnings(self) -> Iterator[str]:
        """A line for everything else."""
        for what, (first, count) in self._left.items():
            yield f"{readable(first)}: {readable(what)} is not kept" + (
                f", nor of {count - 1:,} more" if count > 1 else ""
            )
        yield from self._warnings
        if more := self._count - len(self._warnings):
            yield f"{more:,} more warnings of this kind are not listed"
