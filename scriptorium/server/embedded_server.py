"""The process of the embedded server: Prefect's API, on a socket that the starting process has bound.

Each server migrates the database when it starts. Two servers that start at once on one PREFECT_HOME find it locked or
incomplete. So servers start one after the other, under a lock that the kernel releases when its holder ends. Loading
Prefect takes longest, and is done before the lock is taken.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import stat
import sys
from pathlib import Path

import uvicorn
from filelock import FileLock


class _Server(uvicorn.Server):
    """Releases the lock as soon as the server answers."""

    def __init__(self, config: uvicorn.Config, lock: FileLock) -> None:
        super().__init__(config)
        self._lock = lock

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._lock.release()


def keep_private(database: Path) -> None:
    """Make the database, or close it to others: SQLite gives its mode to the files beside it. The umask cannot
    do this where the folder has a default access list."""
    with contextlib.suppress(OSError):  # a link, or another user's: the server itself reports what it cannot use
        descriptor = os.open(database, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def main() -> None:
    """Serve. Arguments: the descriptor of the socket, the descriptor of a pipe that gets a byte when the lock is taken,
    the file of the lock."""
    os.umask(0o077)  # nobody else may read the database of the runs
    gc.set_threshold(10_000)  # with the default, a third of the time of the import below is spent on looking for cycles
    listening, notify = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    import prefect.server.api.server  # noqa: F401  before the lock is taken: it takes seconds

    lock = FileLock(sys.argv[3], mode=0o600)
    lock.acquire(poll_interval=0.1)
    keep_private(Path(sys.argv[3]).with_name("prefect.db"))
    os.write(notify, b"!")
    os.close(notify)
    _Server(config, lock).run(sockets=[listening])
    gc.freeze()  # at its end the interpreter would look for cycles in everything that is left


if __name__ == "__main__":
    main()
