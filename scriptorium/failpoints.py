"""Named points at which the matrix of faults makes this process die, fail or wait; in production each is one look at an
empty table.

``reach("upload.before-manifest")`` does nothing unless the variable ``SCRIPTORIUM_CRASHPOINTS`` was set when the
process began. It holds a JSON object: the name of a point (``name#2``: only the second time) to what happens there,
``"KILL"``, ``"TERM"`` or ``"INT"`` (the signal), ``"FULL"`` (the disk is full), ``"wait:FILE"`` (until the file is;
``FILE.here`` says that we wait). ``"*": "log:FILE"`` writes down every point that is reached. What each fault leaves
behind: docs/faults.md.
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

VARIABLE = "SCRIPTORIUM_CRASHPOINTS"
_LONGEST_WAIT = 300.0  # seconds; a test that forgot us must not leave a process behind

_armed: Mapping[str, str] = json.loads(variable(VARIABLE) or "{}")
_seen: Counter[str] = Counter()


def reach(point: str) -> None:
    """Say that the process has come to this point."""
    if _armed:
        _act(point)


def _act(point: str) -> None:
    _seen[point] += 1
    for name in ("*", point, f"{point}#{_seen[point]}"):
        if name in _armed:
            _do(_armed[name], f"{point}#{_seen[point]}")


def _do(deed: str, moment: str) -> None:
    if deed == "FULL":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), moment)
    word, _, file = deed.partition(":")
    if word == "log":
        with Path(file).open("a", encoding="utf-8") as log:
            log.write(f"{moment}\n")
    elif word == "wait":
        Path(f"{file}.here").touch()
        until = time.monotonic() + _LONGEST_WAIT
        while not Path(file).exists() and time.monotonic() < until:
            time.sleep(0.02)
    else:
        os.kill(os.getpid(), signal.Signals[f"SIG{word}"])
