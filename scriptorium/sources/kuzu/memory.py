"""How much memory the child that reads a Kuzu database may use, and in which steps it gets more.

Kuzu's need of memory depends on whole columns, not on single edits: the replay of a WAL of 9 MB may need 2 GB. The
application may use 80% of the machine for it. The reader gets a share of what this process may use; in a container,
under a limit of systemd or under ``ulimit`` that is less than the machine has.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

SHARE = 0.5
_STEPS = tuple(256 << 20 << step for step in (0, 2, 3, 4, 5, 6, 7, 8, 9, 10))
_LEAST = 64 << 20  # Kuzu opens nothing with much less


def allowed(root: Path = Path("/")) -> int:
    """Bytes that this process may use at most: the least of the machine, its control groups, its ``ulimit``s."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_of_control_groups(root)]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    return min(limits)


def limited(root: Path = Path("/")) -> bool:
    """Whether the kernel refuses memory at a limit. Otherwise it grants it, and ends a process when memory runs out."""
    with contextlib.suppress(OSError):
        if (root / "proc/sys/vm/overcommit_memory").read_text().strip() == "2":
            return True
    return any(
        resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    )


def pools(share: float, root: Path = Path("/")) -> tuple[int, ...]:
    """Sizes of the buffer pool to try, one after another, up to ``share`` of what is allowed and never more than is
    free now: if a pool grew past that, the kernel would end some process."""
    most = max(_LEAST, min(int(allowed(root) * share), max(_available(root), _STEPS[0])))
    return (*(step for step in _STEPS if step < most), most)


def _available(root: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return _STEPS[-1]


def _of_control_groups(root: Path) -> Iterator[int]:
    """The limits of the groups that this process is in and of those above them, version 2 and version 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        for base in ("sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/memory"):
            yield from _upwards(root / base, path.strip("/"), name)


def _upwards(base: Path, path: str, name: str) -> Iterator[int]:
    """In a container the path may be the host's, and the group itself is mounted at the base."""
    folder = base / path
    while True:
        with contextlib.suppress(OSError, ValueError):
            yield int((folder / name).read_text())  # "max" is no number
        if folder == base or base not in folder.parents:
            return
        folder = folder.parent
