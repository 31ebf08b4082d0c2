"""A store that holds many backups, to see how fast the inspecting commands answer: real manifests and annotations, made
from one real backup. ``python -m benchmarks.many SETTINGS COUNT``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scriptorium.catalog import Catalog
from scriptorium.manifest import archive_name, new_id
from scriptorium.model import Annotations, Verification
from scriptorium.settings import Settings, load
from scriptorium.stores.objects.archive_package import ArchivePackage


def fill(settings: Settings, count: int) -> None:
    """Multiply the only backup of the only store to ``count`` of them, one for each hour of the past."""
    store = next(iter(settings.stores.values()))
    only = Catalog(settings).backups()[0]
    key = only.copies[0].key
    original = store.manifest(key)
    assert original.archive is not None
    file = Path(store.location(key))
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for number in range(1, count):
        created = newest - timedelta(hours=number)
        name = archive_name(original.type, created, original.archive.compression, None)
        copy = replace(
            original,
            id=new_id(),
            name=name.partition(".tar")[0],
            created_at=created,
            finished_at=created + timedelta(seconds=30),
            archive=replace(original.archive, name=name),
        )
        written = store.put(ArchivePackage(file, copy)).key
        store.annotate(written, Annotations(verification=Verification(created, sound=True, seconds=1.0)))


if __name__ == "__main__":
    fill(load(Path(sys.argv[1])), int(sys.argv[2]))
