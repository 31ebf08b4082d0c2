"""Whether we may put something into a folder."""

from __future__ import annotations

import os
from pathlib import Path

from scriptorium.errors import RestoreFailed


def may_write(path: Path) -> str:
    """Says where it may be written; ``RestoreFailed`` when the nearest folder that exists is not ours to write."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RestoreFailed("we may not write there", on=str(folder), hint="run it as the user who owns the library")
    return f"{folder} may be written"
