"""A real backup of a real library by the recipe itself, without Prefect: for tests that need one quickly."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from scriptorium.model import Manifest
from scriptorium.operations.backup import backup
from scriptorium.requests import BackupRequest
from scriptorium.settings import Settings
from scriptorium.words import BackupType, Compression, Tier


def take(
    settings: Settings,
    now: datetime,
    *,
    type: BackupType = BackupType.FULL,
    tier: Tier = Tier.MANUAL,
    compression: Compression = Compression.GZIP,
    name: str = "",
    library: str | None = None,
) -> Manifest:
    """Taken at the caller's time, so that names are known in advance."""
    request = BackupRequest(library=library, type=type, tier=tier, compression=compression, name=name)
    return backup(settings, request, now=now).manifest


def archive_of(backups: Path, manifest: Manifest) -> Path:
    """Where a local store keeps the archive."""
    assert manifest.archive is not None
    return backups / manifest.library / manifest.archive.name
