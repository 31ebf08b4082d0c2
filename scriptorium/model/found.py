"""What is in a store that was found by its address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LibraryFound:
    """A library as the manifests of a store have it. ``newest``: of its good backups; ``proven``: how many are;
    ``recipients``: the keys that the newest is encrypted for; ``parts``: source, kind, path."""

    name: str
    preset: str | None
    backups: int
    newest_id: str
    newest: datetime
    proven: int
    last_proof: datetime | None
    recipients: tuple[str, ...]
    parts: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class StoreFound:
    """What is in a store that was found by its address. ``settings_file``: where settings were written."""

    kind: str
    copies: int
    libraries: tuple[LibraryFound, ...]
    settings_file: Path | None = None
