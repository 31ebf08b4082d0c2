"""A real backup of a real library through the steps themselves, without Prefect: for tests that need one quickly."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from scriptorium.model import BackupType, Compression, Manifest, Tier
from scriptorium.operations import backup
from scriptorium.settings import Settings


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
    """Snapshot, pack, check and store, as the flow does; the time is the caller's, so names are known beforehand."""
    order = backup.place_order(settings, library, type, tier, name=name, compression=compression, now=now)
    with backup.running(settings, order) as folder:
        room = backup.decide_space(settings, order)
        staged = [backup.stage_source(settings, order, source, folder, room) for source in order.sources]
        manifest = backup.pack_archive(settings, order, staged, folder)
        checked = backup.check_archive(settings, order, manifest, folder)
        for store in order.stores:
            backup.store_copy(settings, order, manifest, checked, folder, store)
    return manifest


def archive_of(backups: Path, manifest: Manifest) -> Path:
    """Where a local store keeps the archive."""
    assert manifest.archive is not None
    return backups / manifest.library / manifest.archive.name
