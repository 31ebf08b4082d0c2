"""Progress of a program that does not report it: the bytes that it has written or read, measured at intervals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scriptorium.progress import Advance

_LOOK_SECONDS = 0.5


@contextmanager
def measured(so_far: Callable[[], int], advance: Advance | None) -> Iterator[None]:
    """Until the block is left, call ``advance`` with the bytes by which ``so_far()`` has grown since the last call."""
    if advance is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        reported, last = 0, False
        while not last:
            last = over.wait(_LOOK_SECONDS)
            now = so_far()
            if now > reported:
                advance(now - reported)
                reported = now

    thread = threading.Thread(target=look, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def bytes_read(pid: int) -> int:
    """The bytes that a process has read so far; 0 if the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/io").read_text().split(maxsplit=2)[1])
    except (OSError, IndexError, ValueError):
        return 0
