"""Processes that die in the middle: a call in a process of its own, and SIGKILL during it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest

Kill = Callable[[pytest.MonkeyPatch], None]


def killed(call: Callable[[], object], arrange: Kill) -> bool:
    """Run it in another process, which kills itself at the point of ``arrange``; returns whether it got there."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            arrange(pytest.MonkeyPatch())
            call()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_before(owner: object, name: str, count: int = 1) -> Kill:
    """SIGKILL instead of the ``count``-th call."""

    def arrange(patch: pytest.MonkeyPatch) -> None:
        real, left = getattr(owner, name), [count]

        def call(*args: object, **how: object) -> object:
            left[0] -= 1
            return real(*args, **how) if left[0] else kill()

        patch.setattr(owner, name, call)

    return arrange
