"""Progress of a program that says nothing of its own: what it has written or read by now, looked at now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scriptorium.progress import Advance

_LOOK_SECONDS = 0.5


@contextmanager
def measured(so_far: Callable[[], int], advance: Advance | None) -> Iterator[None]:
    """Tell ``advance`` the bytes that came to ``so_far()`` since it was last told, until the block is left."""
    if advance is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        told, last = 0, False
        while not last:
            last = over.wait(_LOOK_SECONDS)
            now = so_far()
            if now > told:
                advance(now - told)
                told = now

    thread = threading.Thread(target=look, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def bytes_read(pid: int) -> int:
    """What a process has read so far; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/io").read_text().split(maxsplit=2)[1])
    except (OSError, IndexError, ValueError):
        return 0
