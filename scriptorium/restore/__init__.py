"""Restore with a store, a manifest and the sources' own tools: no Prefect, no catalog.

``restore_into`` restores a backup into a folder. ``restore_in_place`` replaces the living data; after a failure it puts
the previous data back. ``recover`` rolls back a restore that a crash interrupted; ``undo`` undoes one that succeeded.
"""

from __future__ import annotations

from scriptorium.restore.as_database import restore_as
from scriptorium.restore.comparison import compare_files
from scriptorium.restore.in_place import restore_in_place
from scriptorium.restore.into_folder import restore_into, source_of
from scriptorium.restore.preflight import Preflight, preflight_in_place, preflight_into, preflight_renamed
from scriptorium.restore.rollback import (
    cut_short,
    drop_previous,
    find_previous,
    newest_kept,
    recover,
    require_idle,
    require_previous,
    undo,
)
from scriptorium.restore.supply import (
    Read,
    Restored,
    Supply,
    load_part,
    load_parts,
    part_of,
    read_parts,
)

__all__ = [
    "Preflight",
    "Read",
    "Restored",
    "Supply",
    "compare_files",
    "cut_short",
    "drop_previous",
    "find_previous",
    "load_part",
    "load_parts",
    "newest_kept",
    "part_of",
    "preflight_in_place",
    "preflight_into",
    "preflight_renamed",
    "read_parts",
    "recover",
    "require_idle",
    "require_previous",
    "restore_as",
    "restore_in_place",
    "restore_into",
    "source_of",
    "undo",
]
