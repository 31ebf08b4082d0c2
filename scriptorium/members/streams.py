"""Streams: parts that are read from the living source while they are packed, in pieces of a known size."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from scriptorium.model import Staged

Piece = tuple[str, memoryview]  # a file's name and all of its contents, valid until the next piece is requested


class Stream(Protocol):
    """One part that is read while it is packed. It ends in success or in an error: a short stream is an error."""

    @property
    def folder(self) -> str:
        """The folder of the archive that contains the pieces; one of the part's trees has it as an empty folder."""
        ...

    def pieces(self) -> Generator[Piece, None, None]:
        """Every piece, in the order of names; the last one is followed by all checks of the whole."""
        ...

    def staged(self) -> Staged:
        """The part as far as it is known: at first its trees, after the last piece also its fingerprints."""
        ...
