"""Whether we may put something into a folder."""

from __future__ import annotations

import os
from pathlib import Path

from scriptorium.errors import RestoreFailed
from scriptorium.fs.system_errors import advice, cannot_write, reason_of


def may_write(path: Path) -> str:
    """Where we may write, as a sentence. ``RestoreFailed`` if we may not write to the nearest folder that exists."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        why = cannot_write(folder)
        raise RestoreFailed(f"nothing can be written there: {reason_of(why)}", on=str(folder), hint=advice(why, folder))
    return f"{folder} may be written"
