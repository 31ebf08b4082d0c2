"""What an operation came to: frozen records that ``report`` renders for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from scriptorium.errors import ScriptoriumError
from scriptorium.model import Backup, Manifest


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A backup that was taken. ``failed``: the stores that have no copy of it, and why; ``seconds``: what it took."""

    backup: Backup
    manifest: Manifest
    failed: Mapping[str, ScriptoriumError]
    seconds: float

    def require_every_copy(self) -> Self:
        """Raise the error of a backup that is safe in some of its stores and missing in others."""
        if not self.failed:
            return self
        there = ", ".join(copy.store for copy in self.backup.copies)
        first = next(iter(self.failed.values()))
        raise type(first)(
            f"the backup {self.backup.id} is complete in {there}, but has no copy in {', '.join(self.failed)}",
            on="; ".join(f"{store}: {error}" for store, error in self.failed.items()),
            hint=first.hint,
        )
