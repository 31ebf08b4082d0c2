"""The output of an export: written beside its final path under a hidden name, then moved as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from scriptorium.errors import NoSpace, NotFound, UsageError
from scriptorium.fs.atomic import new_file, put_new
from scriptorium.fs.system_errors import no_space


@dataclass(frozen=True, slots=True)
class Output:
    """``place``: the final file or folder; ``working`` and ``spool``: temporary folders on the same disk."""

    place: Path
    working: Path
    spool: Path

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """A new file of the export; it is synced to disk at the end of the block."""
        with new_file(self.working / name) as file:
            yield file

    def put_file(self, name: str) -> None:
        """Move the one file to its final path. ``UsageError`` if something is there by now."""
        self._put(self.working / name)

    def put_folder(self) -> None:
        """Move the folder with all its files to its final path."""
        self._put(self.working)

    def _put(self, made: Path) -> None:
        try:
            put_new(made, self.place)
        except FileExistsError:
            raise _taken(self.place) from None


@contextlib.contextmanager
def output_to(place: Path) -> Iterator[Output]:
    """Provide an output; what was not moved to its final path is removed at the end of the block. ``NoSpace``."""
    if not place.parent.is_dir():
        raise NotFound("there is no such folder", on=str(place.parent), hint="make it, or name another one")
    hidden = place.parent / f".{place.name[:100]}.{secrets.token_hex(4)}.partial"
    try:
        hidden.mkdir(mode=0o700)
        for name in ("out", "spool"):
            (hidden / name).mkdir(mode=0o700)
        yield Output(place, hidden / "out", hidden / "spool")
    except OSError as error:
        if no_space(error):
            raise NoSpace(
                "the disk became full while exporting", on=str(place.parent), hint="free some space"
            ) from error
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def require_free(place: Path, *, folder: bool) -> None:
    """``UsageError`` if something is there already; an empty folder is allowed."""
    if not os.path.lexists(place):
        return
    if folder and place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
        return
    raise _taken(place)


def _taken(place: Path) -> UsageError:
    return UsageError("the output already exists", on=str(place), hint="choose another path, or move it away")
