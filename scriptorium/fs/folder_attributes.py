"""The mode, owner and access lists of a folder that stays, as the plan of a switch records them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scriptorium.fs.access_lists import ACCESS, DEFAULT, AccessList
from scriptorium.fs.attributes import set_lists


@dataclass(frozen=True, slots=True)
class FolderAttributes:
    """The mode, owner and access lists of a folder (a name that ``Places.itself`` gives), as the plan records them.
    ``lists``: in hexadecimal, ``""`` for none; plans of earlier versions do not have them."""

    mode: int
    uid: int
    gid: int
    lists: tuple[str, str] | None = None

    @classmethod
    def of(cls, folder: Path) -> FolderAttributes:
        found = folder.stat()
        access, default = (_list(folder, name) for name in (ACCESS, DEFAULT))
        return cls(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, (access, default))

    def put_on(self, folder: Path) -> None:
        if os.geteuid() == 0:
            os.chown(folder, self.uid, self.gid)
        if self.lists is not None and self.lists != self.of(folder).lists:
            self._put_lists_on(folder, *self.lists)
        if stat.S_IMODE(folder.stat().st_mode) != self.mode:
            folder.chmod(self.mode)

    def _put_lists_on(self, folder: Path, access: str, default: str) -> None:
        """The group bits of the mode have another meaning with a list: until the lists are set, only the owner may
        enter."""
        folder.chmod(self.mode & 0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            lists = [AccessList.of_kernel(bytes.fromhex(one)) if one else None for one in (access, default)]
            set_lists(descriptor, *lists)
        finally:
            os.close(descriptor)


def _list(folder: Path, name: str) -> str:
    try:
        return os.getxattr(folder, name).hex()
    except OSError:
        return ""


def folder_attributes(row: Sequence[Any], at: int, lists: int) -> FolderAttributes:
    """From a row of the plan: the numbers begin at ``at``."""
    mode, uid, gid = row[at : at + 3]
    return FolderAttributes(mode, uid, gid, tuple(row[lists]) if len(row) > lists and row[lists] else None)
