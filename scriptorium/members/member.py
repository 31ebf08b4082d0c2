"""One member of a backup as a store returns it: its properties, and its contents in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from scriptorium.model import FileEntry


@dataclass(slots=True)
class Member:
    """``entry`` has no hash. ``lists``: access lists as text, by their names in the kernel.

    The contents are read once, and before the next member is asked for.
    """

    entry: FileEntry
    uid: int
    gid: int
    uname: str
    gname: str
    xattrs: dict[str, bytes]
    lists: dict[str, str]
    _contents: Iterator[memoryview] = field(repr=False)

    def chunks(self) -> Iterator[memoryview]:
        """The rest of the contents, in pieces of 1 MiB at most. ``DamageFound`` when they end early."""
        return self._contents

    def contents(self) -> bytes:
        """The contents as one piece: for members that are known to be small."""
        return b"".join(self.chunks())
