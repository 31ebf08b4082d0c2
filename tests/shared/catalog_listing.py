"""What the tests of the catalog ask of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from scriptorium.catalog import Catalog
from scriptorium.model import Backup

HOUR = timedelta(hours=1)
Shelf = Any  # the fixture's class; test modules cannot import from conftest


def listed(shelf: Shelf, **how: Any) -> list[Backup]:
    return Catalog(shelf.settings).backups(**how)
