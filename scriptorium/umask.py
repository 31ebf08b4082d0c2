"""Who may open what is made here: this user alone, from the creation on.

A mode that is set after a file was made comes too late for whoever opened it in between, and other programs make files
for us (``pg_dump``, Kuzu, Prefect). So it is the umask of the process that says it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PRIVATE, _USUAL = 0o077, 0o022
_previous: list[int] = []  # the umask that we were started with, then those of blocks


def keep_private() -> None:
    """From now on, what this process and its children make is open to its user alone."""
    _previous.append(os.umask(_PRIVATE))


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """The same for a block: in a worker of Prefect, which has a umask of its own."""
    keep_private()
    try:
        yield
    finally:
        os.umask(_previous.pop())


@contextlib.contextmanager
def usual_files() -> Iterator[None]:
    """Folders and files are made as most programs make them: their modes go into an archive. They lie in a folder that
    is private."""
    previous = os.umask(_USUAL)
    try:
        yield
    finally:
        os.umask(previous)


@contextlib.contextmanager
def users_folders() -> Iterator[None]:
    """Folders are made as the user makes them, and never for others to write in: the way to living data, or to what the
    user wants somewhere."""
    previous = os.umask(0o777)
    os.umask((_previous[0] if _previous else previous) | _USUAL)
    try:
        yield
    finally:
        os.umask(previous)


def make_folders(folder: Path) -> None:
    """The folder and what is missing above it, see ``users_folders``."""
    with users_folders():
        folder.mkdir(parents=True, exist_ok=True)


def users_umask() -> int:
    """What the user's own commands make files with; -1 where that is still the umask of this process."""
    return _previous[0] if _previous else -1
