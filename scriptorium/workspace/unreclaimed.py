"""The stores that still hold the space of removed backups: noted before a removal, until the space is freed.

A file for each, ``<workspace>/unreclaimed/<store>``. So a cleanup that was cut short is completed by the next one.
"""

from __future__ import annotations

import contextlib

from scriptorium.settings import Settings
from scriptorium.workspace.locks import root


def note_removal(settings: Settings, store: str) -> None:
    folder = root(settings) / "unreclaimed"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / store).touch(mode=0o600)


def unreclaimed(settings: Settings) -> tuple[str, ...]:
    """The names of the stores; only those that are still configured."""
    with contextlib.suppress(FileNotFoundError):
        noted = {file.name for file in (root(settings) / "unreclaimed").iterdir()}
        return tuple(name for name in settings.stores if name in noted)
    return ()


def note_reclaimed(settings: Settings, store: str) -> None:
    (root(settings) / "unreclaimed" / store).unlink(missing_ok=True)
