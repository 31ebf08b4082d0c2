"""Streams: what is read from a living source while it is packed, in pieces of a known size."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from scriptorium.model import Staged

Piece = tuple[str, memoryview]  # a file's name and all of its contents, which last until the next piece is asked for


class Stream(Protocol):
    """One part that is read while it is packed. Its end is a success or an error, and never comes too early."""

    @property
    def folder(self) -> str:
        """The folder of the archive that the pieces are the members of; one of the part's trees has it, empty."""
        ...

    def pieces(self) -> Generator[Piece, None, None]:
        """Every piece, in the order of names; the last one is followed by all checks of the whole."""
        ...

    def staged(self) -> Staged:
        """The part as far as it is known: at first its trees, after the last piece its facts too."""
        ...
