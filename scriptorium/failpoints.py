"""Named points at which the fault matrix makes this process die, fail or wait. In production each costs one look into
an empty table.

``reach("upload.before-manifest")`` does nothing unless the variable ``SCRIPTORIUM_FAILPOINTS`` was set when the
process began. It holds a JSON object: the name of a point (``name#2``: only the second time) and what happens there:
``"KILL"``, ``"TERM"`` or ``"INT"`` (the signal), ``"FULL"`` (the disk is full), ``"wait:FILE"`` (until the file exists;
``FILE.here`` says that we wait). ``"*": "log:FILE"`` writes down every point that is reached. docs/faults.md says what
each fault leaves behind.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from scriptorium.process import variable

VARIABLE = "SCRIPTORIUM_FAILPOINTS"
_LONGEST_WAIT = 300.0  # seconds; a test that forgets to create the file must not leave a process behind

_armed: Mapping[str, str] = json.loads(variable(VARIABLE) or "{}")
_seen: Counter[str] = Counter()


def reach(point: str) -> None:
    """Say that the process has reached this point."""
    if _armed:
        _act(point)


def _act(point: str) -> None:
    _seen[point] += 1
    for name in ("*", point, f"{point}#{_seen[point]}"):
        if name in _armed:
            _do(_armed[name], f"{point}#{_seen[point]}")


def _do(action: str, where: str) -> None:
    if action == "FULL":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where)
    word, _, file = action.partition(":")
    if word == "log":
        with Path(file).open("a", encoding="utf-8") as log:
            log.write(f"{where}\n")
    elif word == "wait":
        Path(f"{file}.here").touch()
        until = time.monotonic() + _LONGEST_WAIT
        while not Path(file).exists() and time.monotonic() < until:
            time.sleep(0.02)
    else:
        os.kill(os.getpid(), signal.Signals[f"SIG{word}"])
