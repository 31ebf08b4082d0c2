"""A foreign archive as parts of a backup, ready to be packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scriptorium.model import Staged
from scriptorium.operations.adopt.metadata import Foreign
from scriptorium.settings import Library
from scriptorium.words import ROLES, BackupType


@dataclass(frozen=True, slots=True)
class Staging:
    """``warnings``: how far it can be trusted."""

    foreign: Foreign
    type: BackupType
    parts: tuple[Staged, ...]
    warnings: tuple[str, ...]


def type_of(parts: Sequence[Staged], library: Library) -> BackupType:
    """The smallest type that covers all parts."""
    saved = {part.source for part in parts}
    roles = {source.role for source in library.sources if source.name in saved}
    order = (BackupType.DATABASE, BackupType.CONFIG, BackupType.DATA, BackupType.FULL)
    return next(type for type in order if roles <= ROLES[type])
