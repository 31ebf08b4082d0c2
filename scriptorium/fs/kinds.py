"""What is at a path, without following a symlink.

``Path.is_dir`` follows symlinks. It fails if a symlink leads to a name that is too long, or into a folder that we may
not enter.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def is_folder(path: Path | bytes) -> bool:
    """Whether this itself is a folder."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_file(path: Path | bytes) -> bool:
    """Whether this itself is a regular file."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def _mode(path: Path | bytes) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
