"""Where an export is written: beside its place under a hidden name, and put there whole or not at all."""

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
from scriptorium.fs.atomic import new_file, sync_folder
from scriptorium.fs.system_errors import no_space


@dataclass(frozen=True, slots=True)
class Output:
    """``place``: the file or folder that is to be; ``working`` and ``spool``: folders on the same disk, until then."""

    place: Path
    working: Path
    spool: Path

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """A new file of the export, on the disk when the block is left."""
        with new_file(self.working / name) as file:
            yield file

    def put_file(self, name: str) -> None:
        """The one file in its place. ``UsageError`` when something is there by now."""
        try:
            os.link(self.working / name, self.place)
        except FileExistsError:
            raise _taken(self.place) from None
        except OSError:  # this disk knows no links
            require_free(self.place, folder=False)
            (self.working / name).replace(self.place)
        sync_folder(self.place.parent)

    def put_folder(self) -> None:
        """The folder with all its files in its place."""
        sync_folder(self.working)
        try:
            self.working.rename(self.place)  # takes the place of an empty folder, and of nothing else
        except OSError as error:
            if no_space(error):
                raise
            raise _taken(self.place) from error
        sync_folder(self.place.parent)


@contextlib.contextmanager
def output_to(place: Path) -> Iterator[Output]:
    """Somewhere to write; what was not put in its place is gone when the block is left. ``NoSpace``."""
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
                "the disk became full while exporting", on=str(place.parent), hint="free some room"
            ) from error
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def require_free(place: Path, *, folder: bool) -> None:
    """``UsageError`` when something is there already; a folder that is empty may be."""
    if not os.path.lexists(place):
        return
    if folder and place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
        return
    raise _taken(place)


def _taken(place: Path) -> UsageError:
    return UsageError("the output is there already", on=str(place), hint="name another one, or move it away")
