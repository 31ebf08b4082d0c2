"""The embedded server's process: Prefect's API, on a socket that whoever starts it has bound, in its turn.

Each server brings the database up to date when it begins; two that do so at once find it locked or half made. So one
at a time begins on one PREFECT_HOME, under a lock that the kernel drops with its holder; what takes longest, loading
Prefect, is done before.
"""

from __future__ import annotations

import os
import socket
import sys

import uvicorn
from filelock import FileLock


class _InItsTurn(uvicorn.Server):
    """Lets the next one begin as soon as it answers."""

    def __init__(self, config: uvicorn.Config, turn: FileLock) -> None:
        super().__init__(config)
        self._turn = turn

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._turn.release()


def main() -> None:
    """Serve. Arguments: the socket's number, that of a pipe that is told when the turn has come, the lock's file."""
    os.umask(0o077)  # the database of its runs is nobody else's to read
    listening, told = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    import prefect.server.api.server  # noqa: F401  before the lock is taken: it takes seconds

    turn = FileLock(sys.argv[3], mode=0o600)
    turn.acquire(poll_interval=0.1)
    os.write(told, b"!")
    os.close(told)
    _InItsTurn(config, turn).run(sockets=[listening])


if __name__ == "__main__":
    main()
