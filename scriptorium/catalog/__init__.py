"""Which backups there are: an index over all stores, and the records of runs that left no copy."""

from __future__ import annotations

from scriptorium.catalog.catalog import Catalog
from scriptorium.catalog.runs import (
    begin_run,
    finish_run,
    forget_missing,
    half_restored,
    interrupted,
    note_missing,
    runs,
)
from scriptorium.results import Listing, Problem

__all__ = [
    "Catalog",
    "Listing",
    "Problem",
    "begin_run",
    "finish_run",
    "forget_missing",
    "half_restored",
    "interrupted",
    "note_missing",
    "runs",
]
