"""Adopting one file with the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scriptorium.operations.adopt import adopt_one
from scriptorium.requests import AdoptRequest
from scriptorium.results import Adopted
from scriptorium.settings import Settings


def adopt(settings: Settings, file: Path, **options: Any) -> Adopted:
    """The result of adopting ``file``; the options are the other fields of the request."""
    return adopt_one(settings, AdoptRequest(paths=(file,), **options))
