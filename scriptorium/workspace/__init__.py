"""Where runs work: one lock a library, a staging folder a run, the check of free space, marks of who is reading."""

from __future__ import annotations

from scriptorium.workspace.locks import (
    being_read,
    empty_folder,
    forget_cached,
    has_space,
    lock,
    reading,
    removing,
    require_space,
    root,
    scratch_name,
    staging,
)

__all__ = [
    "being_read",
    "empty_folder",
    "forget_cached",
    "has_space",
    "lock",
    "reading",
    "removing",
    "require_space",
    "root",
    "scratch_name",
    "staging",
]
