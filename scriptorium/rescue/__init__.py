"""Restore with a store, a manifest and the sources' own tools: no Prefect, no catalog.

``restore_into`` puts a backup into a folder; ``restore_in_place`` replaces the living data, and leaves it as it was
when anything fails; ``recover`` undoes a restore that a crash cut short.
"""

from __future__ import annotations

from scriptorium.rescue.comparing import compare_files
from scriptorium.rescue.elsewhere import restore_into, source_of
from scriptorium.rescue.inplace import preflight, recover, restore_in_place
from scriptorium.rescue.reading import Read, Restored, Supply, load_parts, read_parts

__all__ = [
    "Read",
    "Restored",
    "Supply",
    "compare_files",
    "load_parts",
    "preflight",
    "read_parts",
    "recover",
    "restore_in_place",
    "restore_into",
    "source_of",
]
