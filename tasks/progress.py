"""Progress of long tasks: a callback that whoever watches may set (the CLI's bar), silent otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

Advance = Callable[[int], None]
Watcher = Callable[[str], AbstractContextManager[Advance]]

_watchers: list[Watcher] = []


@contextlib.contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let ``watcher(what)`` be told of every long step while the block runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@contextlib.contextmanager
def moving(what: str) -> Iterator[Advance | None]:
    """Yield the callback that takes the number of bytes done, or ``None`` when nobody watches."""
    if not _watchers:
        yield None
        return
    with _watchers[-1](what) as advance:
        yield advance
