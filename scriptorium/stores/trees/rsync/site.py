"""The folder of a store, here or on another host: what is needed of it besides rsync."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from scriptorium.progress import Advance
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line
from scriptorium.stores.trees.rsync.generations import Seen

UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Keeps:
    """What the filesystem there can keep. ``case``: names that differ in it alone are two names."""

    links: bool = True
    symlinks: bool = True
    modes: bool = True
    case: bool = True


class Site(Protocol):
    """Paths are relative to the folder of the store. Every method raises ``StoreUnavailable`` when it does not answer,
    and ``NoSpace``."""

    @property
    def name(self) -> str: ...

    def address(self, path: str) -> str:
        """A path as rsync writes it."""
        ...

    def absolute(self, path: str) -> str:
        """A path as it is there; empty where only the account's home knows that."""
        ...

    def survey(self, library: str = "") -> Sequence[Seen]:
        """Every folder in the folders of the libraries, or in that of one; nothing where there is no store yet."""
        ...

    def fetched(self, folder: str, names: Sequence[str]) -> AbstractContextManager[Mapping[str, Path]]:
        """Files of ours in a folder, where they are there: each as a file on this machine, while the block lasts."""
        ...

    def prepare(self, folder: str, inner: Sequence[str]) -> Keeps:
        """Make a folder that only we may enter, and those in it; try what it can keep."""
        ...

    def write(self, folder: str, files: Mapping[str, Path]) -> None:
        """Files of ours into a folder that is made."""
        ...

    def replace(self, folder: str, name: str, data: bytes) -> None:
        """A small file, whole or not at all, and durable. ``NotFound`` if there is no such folder."""
        ...

    def touch(self, folder: str) -> None:
        """Say that somebody works in a folder: ``sweep`` leaves it alone."""
        ...

    def publish(self, old: str, new: str) -> None:
        """Write what was made to the disk, and give the folder its name. ``FileExistsError`` if something has it."""
        ...

    def rename(self, old: str, new: str) -> None:
        """A folder."""
        ...

    def remove(self, folder: str) -> None:
        """A folder with everything in it; no mode of a file is changed, because others may share it."""
        ...

    def hashes(
        self, folder: str, files: Mapping[str, int], advance: Advance | None, *, written: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Path and SHA-256 of these files of a folder, in their order; those that are not there are left out.

        A file that the disk cannot read has ``UNREADABLE`` for a hash. ``files``: with their sizes. ``written``: just
        now; where that can be, they are read from the disk.
        """
        ...

    def opened(self, folder: str, files: Mapping[str, int]) -> Iterator[tuple[str, IO[bytes]]]:
        """These files of a folder, opened, in their order; those that are not there are left out."""
        ...

    def nodes(self, folder: str, lines: Mapping[str, Line]) -> Mapping[str, Node]:
        """Size and mtime of these files of a folder, by their paths; those that are not there are left out."""
        ...

    def free(self) -> int | None:
        """The free bytes there, where that can be known."""
        ...
