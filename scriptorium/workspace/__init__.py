"""Where runs work: one lock for each library, a staging folder for each run, the readers of each backup, free space."""

from __future__ import annotations

from scriptorium.workspace.locks import copy_name, empty_folder, hashes_file, lock, root, scratch_name, staging
from scriptorium.workspace.mounted import forget_mounted, note_mounted, require_mounted
from scriptorium.workspace.readers import being_read, reading, receiver, removing
from scriptorium.workspace.space import Space, find_space, has_space, require_space
from scriptorium.workspace.unreclaimed import note_reclaimed, note_removal, unreclaimed

__all__ = [
    "Space",
    "being_read",
    "copy_name",
    "empty_folder",
    "find_space",
    "forget_mounted",
    "has_space",
    "hashes_file",
    "lock",
    "note_mounted",
    "note_reclaimed",
    "note_removal",
    "reading",
    "receiver",
    "removing",
    "require_mounted",
    "require_space",
    "root",
    "scratch_name",
    "staging",
    "unreclaimed",
]
