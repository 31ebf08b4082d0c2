"""The embedded server's process: Prefect's API, on a socket that whoever starts it has bound."""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    """Serve on the socket whose number is the only argument."""
    os.umask(0o077)  # the database of its runs is nobody else's to read
    import uvicorn

    listening = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[listening])
    sys.exit(0)


if __name__ == "__main__":
    main()
