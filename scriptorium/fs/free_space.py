"""Free space on a filesystem, and whether something fits. No other module asks the system for free space."""

from __future__ import annotations

import shutil
from pathlib import Path

from scriptorium import wording
from scriptorium.errors import NoSpace

MARGIN = 64 << 20  # bytes that a backup leaves free: a disk that is full to the last byte stops the application


def nearest_folder(path: Path) -> Path:
    """The folder that a path is, or the nearest one above it that exists."""
    while not path.is_dir():
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """The free bytes of the filesystem that a path is on, or will be."""
    return shutil.disk_usage(nearest_folder(path)).free


def device_of(path: Path) -> int:
    """The filesystem that a path is on, or will be."""
    return nearest_folder(path).stat().st_dev


def has_space(path: Path, needed: int, *, margin: int = 0) -> bool:
    """Whether the filesystem of ``path`` has ``needed`` bytes and the margin free. One that reports a size of 0 (ramfs,
    some network filesystems) does not know, and is tried."""
    return free_bytes(path) >= needed + margin or shutil.disk_usage(nearest_folder(path)).total == 0


def require_space(path: Path, needed: int, what: str, hint: str, *, margin: int = 0) -> None:
    """``NoSpace`` unless the filesystem of ``path`` has ``needed`` bytes and the margin free."""
    if not has_space(path, needed, margin=margin):
        raise NoSpace(
            f"{what} needs {wording.size(needed + margin)}, there are {wording.size(free_bytes(path))}",
            on=str(nearest_folder(path)),
            hint=hint,
        )
