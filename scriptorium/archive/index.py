"""The index of an archive: the places at which reading may begin, so that few members need few bytes.

The writer begins anew (``OutputStream.begin_anew``) before a member, about every four MiB; a large member has a place
of its own before it. Between two such places lie whole members. The index of a very large archive keeps some of them.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scriptorium.archive.written import MIB
from scriptorium.model import ArchiveRecord, EntryPoint

_UNIT = 4 * MIB
_LARGE = 2 * MIB
_MOST = 8192
_LAST = 2  # before and behind the list of members, where it is a member of its own
_NEAR = MIB  # bytes that are read rather than asked for anew


class IndexMaker:
    """``members``: how many members of the parts were written."""

    def __init__(self) -> None:
        self.members = 0
        self._numbers, self._offsets = array("Q"), array("Q")

    def wants(self, offset: int, size: int) -> bool:
        """Whether there should be a place at this offset of the tar stream, before a member with so many bytes."""
        if not self._offsets:
            return True
        since = offset - self._offsets[-1]
        return since >= _UNIT or (since > 0 and size >= _LARGE)

    def mark(self, offset: int) -> None:
        self._numbers.append(self.members)
        self._offsets.append(offset)

    def made(self, places: Sequence[int]) -> tuple[EntryPoint, ...]:
        """The index. ``places``: where the bytes of each mark begin in the archive. One place alone is none."""
        count = len(self._offsets)
        if count < 2:
            return ()
        step = -(-count // _MOST)
        kept = {*range(0, count, step), *range(count - _LAST, count)}
        return tuple(EntryPoint(self._numbers[one], self._offsets[one], places[one]) for one in sorted(kept))


@dataclass(frozen=True, slots=True)
class Run:
    """A range of an archive that is read: it begins at ``start``, ends before the byte ``end``, and ``last`` is the
    number of the last member in it that is wanted."""

    start: EntryPoint
    end: int
    last: int


def runs(record: ArchiveRecord, numbers: Iterable[int]) -> list[Run]:
    """The ranges that hold the members of these numbers, which ascend. What lies near together is one range."""
    firsts = [point.member for point in record.index]
    ends = [*(point.at for point in record.index[1:]), record.bytes]
    found: list[Run] = []
    for number in numbers:
        at = bisect.bisect_right(firsts, number) - 1
        start = record.index[at]
        if found and start.at - found[-1].end <= _NEAR:
            found[-1] = Run(found[-1].start, ends[at], number)
        else:
            found.append(Run(start, ends[at], number))
    return found
