"""Where other filesystems are mounted: a mounted folder can neither be renamed nor safely moved."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mounted_in(folder: Path) -> Iterator[Path]:
    """Mount points at or below a path (bind mounts too), by their real paths; none if the kernel does not list them."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return
    real = os.fsencode(os.path.realpath(folder))
    for line in lines:
        point = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4])
        if point == real or point.startswith(real.rstrip(b"/") + b"/"):
            yield Path(os.fsdecode(point))


def mount_of(path: Path) -> Path:
    """The mount point that a path is on, or would be on."""
    real = path.resolve()
    while not real.is_mount() and real != real.parent:
        real = real.parent
    return real
