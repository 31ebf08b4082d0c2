"""What a filesystem does not keep: tried with files made for that in a folder of ours, which is removed at once."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import Untrusted
from scriptorium.fs import ours
from scriptorium.fs.access_lists import ACCESS, AccessList
from scriptorium.fs.descriptors import FOLDER, folder_at, require_own
from scriptorium.fs.owners import Ownership

OWNERS, MODES, ATTRIBUTES, LISTS = "owners", "modes", "attributes", "access lists"
SYMLINKS, HARD_LINKS = "symlinks", "hard links"
_FILE, _LINK = b"file", b"link"
_LIST = AccessList.of_text("user::rw-,user:1:r--,group::---,mask::r--,other::---")
_SOMEBODY = (1, 1)


@dataclass(frozen=True, slots=True)
class Probe:
    """``lacks``: what cannot be set or made there, with the system's reason. ``runs``: programs may be run there."""

    lacks: Mapping[str, str]
    runs: bool = True


class _Ignored(OSError):
    """A call that ended well and had no effect."""


def probe(folder: Path, ownership: Ownership) -> Probe:
    """Try everything in an existing folder. Owners are tried only if the restore will set them. ``OSError`` if nothing
    can be made there."""
    runs = not os.statvfs(folder).f_flag & os.ST_NOEXEC
    try:
        with _scratch(folder) as inside:
            return Probe(dict(_lacks(inside, ownership)), runs)
    except Untrusted:
        return Probe({}, runs)  # somebody moves folders there meanwhile; the restore itself reports it


def _lacks(folder: int, ownership: Ownership) -> Iterator[tuple[str, str]]:
    file = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        tried: dict[str, Callable[[], None]] = {
            MODES: lambda: _mode(file),
            ATTRIBUTES: lambda: os.setxattr(file, "user.scriptorium", b"1"),
            LISTS: lambda: os.setxattr(file, ACCESS, _LIST.for_kernel()),
            SYMLINKS: lambda: os.symlink(b"nowhere", _LINK, dir_fd=folder),
            HARD_LINKS: lambda: os.link(_FILE, b"name", src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False),
        }
        if ownership.attempted:  # last: then it may belong to somebody else
            tried[OWNERS] = lambda: os.fchown(file, *(ownership.given or _SOMEBODY))
        for what, attempt in tried.items():
            try:
                attempt()
            except OSError as error:
                yield what, error.strerror or str(error)
    finally:
        os.close(file)


def _mode(file: int) -> None:
    os.fchmod(file, 0o640)
    if stat.S_IMODE(os.fstat(file).st_mode) != 0o640:
        raise _Ignored("it has no effect")


@contextmanager
def _scratch(folder: Path) -> Iterator[int]:
    """A new folder that only we may enter. Only what is named here is removed, through the open folder."""
    name = f"{ours.PREFIX}probe-{secrets.token_hex(6)}".encode()
    with folder_at(folder) as parent:
        os.mkdir(name, 0o700, dir_fd=parent)
        held = os.open(name, FOLDER, dir_fd=parent)
        try:
            require_own(held, folder)
            yield held
        finally:
            for made in (_FILE, _LINK, b"name"):
                with contextlib.suppress(OSError):
                    os.unlink(made, dir_fd=held)
            os.close(held)
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=parent)
