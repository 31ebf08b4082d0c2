"""Restore with a store, a manifest and the sources' own tools: no Prefect, no catalog.

``restore_into`` puts a backup into a folder; ``restore_in_place`` replaces the living data, and leaves it as it was
when anything fails; ``recover`` undoes a restore that a crash cut short; ``undo`` goes back from one that stands.
"""

from __future__ import annotations

from scriptorium.rescue.comparing import compare_files
from scriptorium.rescue.elsewhere import restore_into, source_of
from scriptorium.rescue.going_back import (
    cut_short,
    drop_former,
    find_previous,
    newest_kept,
    recover,
    require_idle,
    require_previous,
    undo,
)
from scriptorium.rescue.inplace import restore_in_place
from scriptorium.rescue.planning import Plan, Planned, plan_in_place, plan_into, plan_renamed
from scriptorium.rescue.reading import Read, Restored, Supply, load_part, load_parts, missing_facts, part_of, read_parts
from scriptorium.rescue.renamed import restore_as

__all__ = [
    "Plan",
    "Planned",
    "Read",
    "Restored",
    "Supply",
    "compare_files",
    "cut_short",
    "drop_former",
    "find_previous",
    "load_part",
    "load_parts",
    "missing_facts",
    "newest_kept",
    "part_of",
    "plan_in_place",
    "plan_into",
    "plan_renamed",
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
