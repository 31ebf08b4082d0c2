"""The receivers of a backup while its sources are read: the writer of an archive, of a tree, or several at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from scriptorium.model import FileEntry, Manifest, Staged, Tree

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class MemberHeader:
    """A member before its contents: ``entry`` has no hash yet. ``attributes``: those that are kept, by name.

    ``tree``: the tree that has it, and ``status``: of the file that is read; ``None`` if it is on no disk. ``names``
    (of owner and group) and ``lists`` (access lists as text): where they come from another copy and not from a disk.
    """

    entry: FileEntry
    uid: int
    gid: int
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    tree: Tree | None = None
    status: os.stat_result | None = None
    known: bool = False  # unchanged since an earlier backup
    names: tuple[str, str] | None = None
    lists: Mapping[str, str] = field(default_factory=dict)


class Sink(Protocol):
    """Gets every member once, in the order of the backup, while its contents are read.

    If no sink wants the contents, files whose hash is known are not read.
    """

    @property
    def wants_contents(self) -> bool: ...

    def begin(self, draft: Manifest, staged: Sequence[Staged]) -> None:
        """What is to be saved: ``draft`` has neither parts nor files."""
        ...

    def member(self, member: MemberHeader) -> None:
        """A member. After that of a file come exactly ``member.entry.size`` bytes."""
        ...

    def space(self) -> memoryview | None:
        """Memory into which the next bytes may be read without a copy; ``None`` if they go through ``write``."""
        ...

    def filled(self, count: int) -> None:
        """This many bytes were read into ``space``."""
        ...

    def write(self, data: memoryview) -> None:
        """The next bytes of the contents; they last until the call returns."""
        ...

    def end(self, entry: FileEntry) -> None:
        """The member is complete; ``entry`` has the hash of its contents."""
        ...

    def finish(self, manifest: Manifest, listing: Path | None) -> None:
        """Every member was read. ``listing``: the list of members, if it is too long for the manifest."""
        ...


class Sinks:
    """Several sinks as one. Bytes are read into the memory of the first that offers some, and written to the others."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._all = tuple(sinks)
        self._reader: Sink | None = None
        self._space = memoryview(b"")
        self._own = memoryview(bytearray(0))

    def begin(self, draft: Manifest, staged: Sequence[Staged]) -> None:
        for sink in self._all:
            sink.begin(draft, staged)

    @property
    def want_contents(self) -> bool:
        return any(sink.wants_contents for sink in self._all)

    def member(self, member: MemberHeader) -> None:
        for sink in self._all:
            sink.member(member)

    def space(self) -> memoryview:
        """Where the next bytes may be read to; never empty."""
        for sink in self._all:
            offered = sink.space()
            if offered is not None:
                self._reader, self._space = sink, offered
                return offered
        if not self._own:
            self._own = memoryview(bytearray(_BLOCK))
        self._space = self._own
        return self._own

    def filled(self, count: int) -> None:
        data = self._space[:count]
        for sink in self._all:
            if sink is not self._reader:
                sink.write(data)
        if self._reader is not None:
            self._reader.filled(count)  # last: its memory may be used for something else from now on

    def write(self, data: memoryview) -> None:
        for sink in self._all:
            sink.write(data)

    def end(self, entry: FileEntry) -> None:
        for sink in self._all:
            sink.end(entry)

    def finish(self, manifest: Manifest, listing: Path | None) -> None:
        for sink in self._all:
            sink.finish(manifest, listing)
