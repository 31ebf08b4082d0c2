"""Until when the stores lock the copies of a backup."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from scriptorium.errors import STORE_TROUBLE
from scriptorium.model import Backup
from scriptorium.settings import Settings
from scriptorium.stores import Lock
from scriptorium.stores.care import lock_of


def locks_of(settings: Settings, backup: Backup) -> Mapping[str, Lock]:
    """The locks that keep copies of a backup from being removed now, by their stores. A store that does not answer
    says nothing of it."""
    locks = {}
    for copy in backup.copies:
        with suppress(*STORE_TROUBLE):
            if (lock := lock_of(settings.store(copy.store), copy.key)) is not None:
                locks[copy.store] = lock
    return locks
