"""Pinning a backup: it is kept for ever, until it is unpinned."""

from __future__ import annotations

import logging
from dataclasses import replace

from scriptorium.catalog import Catalog
from scriptorium.errors import NotFound
from scriptorium.model import Backup
from scriptorium.requests import PinRequest
from scriptorium.settings import Settings

log = logging.getLogger(__name__)


def pin(settings: Settings, request: PinRequest) -> Backup:
    """The whole recipe: find the backup, and pin or unpin every copy of it."""
    backup = Catalog(settings).find(request.reference, library=request.library)
    pin_copies(settings, backup, pinned=request.pinned)
    return backup


def pin_copies(settings: Settings, backup: Backup, *, pinned: bool) -> None:
    """Pin or unpin every copy of a backup. ``NotFound`` if it has none."""
    if not backup.copies:
        raise NotFound("this backup has no copy", on=backup.id, hint=f"it is {backup.status}")
    for copy in backup.copies:
        store = settings.store(copy.store)
        store.annotate(copy.key, replace(store.annotations(copy.key), pinned=pinned))
    log.info("%s of %s is %s", backup.id, backup.library, "pinned" if pinned else "no longer pinned")
