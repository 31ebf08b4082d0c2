"""The space of a remote, where it says that."""

from __future__ import annotations

import json

from scriptorium.errors import NotFound, StoreUnavailable
from scriptorium.stores.trees.rclone.program import Rclone


def free_bytes(program: Rclone) -> int | None:
    """``None`` where the remote does not know it."""
    try:
        about = json.loads(program.run("about", "--json", program.remote).stdout)
    except (NotFound, StoreUnavailable, ValueError):
        return None
    free = about.get("free")
    return int(free) if isinstance(free, int) and free >= 0 else None
