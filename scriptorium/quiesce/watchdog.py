"""Resumes a paused application when nobody else does: ``python -I watchdog.py LIMIT [RESUME COMMAND…]``.

Started before the pause. It reads ``stop <pid>`` from standard input before each process is stopped (and answers
``ok``), and ``done`` once all run again. If the input ends without ``done`` (the pausing process died), or after LIMIT
seconds, it continues every process that was named and becomes the resume command, if there is one. It imports
nothing of the package, so that it starts quickly and cannot fail because of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time


def main(argv: list[str]) -> int:
    limit, resume = float(argv[1]), argv[2:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stopped: list[int] = []
    os.write(1, b"ready\n")
    if _reads_done(time.monotonic() + limit, stopped):
        return 0
    for pid in reversed(stopped):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGCONT)
    if resume:
        os.execvp(resume[0], resume)  # noqa: S606 - the command is the configuration's
    return 3


def _reads_done(deadline: float, stopped: list[int]) -> bool:
    rest = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([0], [], [], left)[0]:
            return False
        data = os.read(0, 4096)
        if not data:
            return False
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"done":
                return True
            if line.startswith(b"stop "):
                stopped.append(int(line[5:]))
                with contextlib.suppress(OSError):
                    os.write(1, b"ok\n")
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv))
