"""The driver without the time for its imports: one process has imported them, and forks for every operation.

The forked process has the environment and the outputs that it is given, and the failpoints of that environment. It ends
as the driver ends: by ``sys.exit``, or by the signal of a failpoint.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_ANSWER = 20  # bytes of each


class Preloaded:
    """The process that has imported the driver. It ends when its standard input ends, so at the latest with this
    process."""

    def __init__(self, folder: Path) -> None:
        argv = [sys.executable, __file__]
        self._server = subprocess.Popen(argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self._server.communicate)  # ends its input, and waits

    def run(self, words: tuple[str, str], env: Mapping[str, str], timeout: float) -> tuple[int, str, str]:
        """The exit status (negative: the signal that ended it), the standard output, the standard error."""
        with tempfile.TemporaryDirectory() as name:
            outputs = [str(Path(name, kind)) for kind in ("stdout", "stderr")]
            assert self._server.stdin is not None
            print(json.dumps([words, dict(env), outputs]), file=self._server.stdin, flush=True)
            pid = int(self._answer(timeout=60))
            try:
                status = int(self._answer(timeout))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._answer(timeout=60)
                raise
            out, err = (Path(output).read_text() for output in outputs)
        return status, out, err

    def _answer(self, timeout: float) -> str:
        assert self._server.stdout is not None
        if not select.select([self._server.stdout], [], [], timeout)[0]:
            raise TimeoutError(f"the operation did not end within {timeout} s")
        return os.read(self._server.stdout.fileno(), _ANSWER).decode()


@functools.cache
def preloaded(folder: Path) -> Preloaded:
    """One such process for each process of the tests."""
    return Preloaded(folder)


def _serve() -> None:
    import driver

    from scriptorium import failpoints

    gc.freeze()  # a search for cycles in a forked process would copy every page of what was imported
    for line in sys.stdin:
        words, env, outputs = json.loads(line)
        pid = os.fork()
        if pid:
            os.write(1, f"{pid:>{_ANSWER}}".encode())
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.write(1, f"{status:>{_ANSWER}}".encode())
            continue
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, output in enumerate(outputs, start=1):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT, 0o600), number)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        failpoints._armed = json.loads(env.get(failpoints.VARIABLE, "{}"))
        sys.exit(driver.main(*words))


if __name__ == "__main__":
    _serve()
