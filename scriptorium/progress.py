"""Progress of a run: the step it is at, what that works on, the bytes done and expected.

The core says ``with step("packing", archive, expected=bytes) as advance`` around each long step and calls
``advance(count)`` with the bytes done since the last call. Whoever wants to know is a watcher: the bar of the command
line, the record that other processes read, Prefect's artifact. Each step is logged, with how long it took.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from scriptorium import wording

log = logging.getLogger(__name__)

Advance = Callable[[int], None]
_QUIET = 300.0  # seconds without an update after which a reader sees a notice


@dataclass(frozen=True, slots=True)
class Step:
    """``item``: what the step works on (an archive, a source, a store). ``expected``: bytes, where that is known."""

    name: str
    item: str = ""
    expected: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.item}".rstrip()


Watcher = Callable[[Step], contextlib.AbstractContextManager[Advance]]

_always: list[Watcher] = []
_watching: ContextVar[tuple[Watcher, ...]] = ContextVar("watching", default=())


@contextlib.contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Call ``watcher(step)`` for every step that begins in this block."""
    before = _watching.get()
    _watching.set((*before, watcher))
    try:
        yield
    finally:
        _watching.set(before)


def watch_always(watcher: Watcher) -> None:
    """Call ``watcher(step)`` for every step of this process."""
    if watcher not in _always:
        _always.append(watcher)


@contextlib.contextmanager
def step(name: str, item: str = "", *, expected: int | None = None, also: Advance | None = None) -> Iterator[Advance]:
    """One long step; yields a function that gets the bytes done since its last call. ``also`` gets them too."""
    this, began, done = Step(name, item, expected), time.monotonic(), 0
    log.info("%s%s", this, f": {wording.size(expected)} expected" if expected else "")
    with contextlib.ExitStack() as watching:
        receivers = [watching.enter_context(watcher(this)) for watcher in (*_always, *_watching.get())]
        receivers += [also] if also is not None else []

        def advance(count: int) -> None:
            nonlocal done
            done += count
            for receive in receivers:
                receive(count)

        try:
            yield advance
        except BaseException as error:
            took = wording.duration(time.monotonic() - began)
            log.warning("%s ended after %s: %s", this, took, str(error) or type(error).__name__)
            raise
    took = wording.duration(time.monotonic() - began)
    log.info("%s: done%s in %s", this, f", {wording.size(done)}" if done else "", took)


def share(done: int, expected: int | None) -> float | None:
    """How much of a step is done, 0 to 1; an estimate that was too low is never more than the whole."""
    return min(1.0, done / expected) if expected else None


def remaining(done: int, expected: int | None, seconds: float) -> float | None:
    """About how many seconds a step still takes, when it goes on as it did."""
    return max(0, expected - done) * seconds / done if expected and done > 0 and seconds > 0 else None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far one run is.

    ``run``: the id of what it makes (a backup, a restore), or the id of the backup that is verified; an export, and the
    saving or loading of one database, have an id of their own. ``outside``: Prefect's id of the flow run, where there
    is one. ``alive``: whether its process is still there.
    """

    run: str
    outside: str
    operation: str
    library: str
    step: Step
    done: int
    began: datetime
    step_began: datetime
    written_at: datetime
    alive: bool

    @property
    def share_done(self) -> float | None:
        """How much of the step is done, 0 to 1."""
        return share(self.done, self.step.expected)

    @property
    def seconds_left(self) -> float | None:
        """About how many seconds the step still takes."""
        seconds = (self.written_at - self.step_began).total_seconds()
        return remaining(self.done, self.step.expected, seconds) if self.alive else None

    def quiet(self, now: datetime) -> bool:
        """Whether there was no update for long. A dump or a health check gives none while it runs."""
        return (now - self.written_at).total_seconds() > _QUIET
