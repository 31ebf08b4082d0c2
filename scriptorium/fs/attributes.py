"""Attributes of a file other than contents, owner, mode and times: which are kept, and which are only named.

Kept are extended attributes in ``user.*`` and POSIX access lists. All others belong to the system that the file lies on
(capabilities, labels of SELinux, what only root sees), and so do the flags of ``chattr``: they are named. A birth time
cannot be set; it is ignored.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from dataclasses import dataclass, field

from scriptorium.fs.access_lists import ACCESS, DEFAULT, RECORDS, AccessList

KEPT = frozenset(RECORDS)
_GET_FLAGS = 0x80086601
_FLAGS = {0x10: "immutable", 0x20: "append-only"}


@dataclass(frozen=True, slots=True)
class Attributes:
    """``kept``: extended attributes and access lists by name. ``left``: what is there and is not kept, in words."""

    kept: dict[str, bytes] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    def mode(self, status: os.stat_result) -> int:
        """The mode to record: of a file with an access list, what the owning group may do stands in its bits."""
        mode = stat.S_IMODE(status.st_mode)
        return AccessList.of_kernel(self.kept[ACCESS]).narrowed(mode) if ACCESS in self.kept else mode


NONE = Attributes()


def attributes_of(source: int) -> Attributes:
    """Of an open file or folder."""
    try:
        names = os.listxattr(source)
    except OSError:
        names = []
    kept: dict[str, bytes] = {}
    left = []
    for name in names:
        if not name.startswith("user.") and name not in KEPT:
            left.append(f"the attribute {name}")
            continue
        with contextlib.suppress(OSError):  # removed meanwhile
            kept[name] = os.getxattr(source, name)
    left += [name for name in sorted(KEPT & kept.keys()) if not _is_list(kept[name]) and kept.pop(name)]
    left += [f"the flag {word}" for word in _flags(source)]
    return Attributes(kept, tuple(left)) if kept or left else NONE


def _is_list(data: bytes) -> bool:
    with contextlib.suppress(ValueError):
        return bool(AccessList.of_kernel(data).text())
    return False


def _flags(descriptor: int) -> list[str]:
    try:
        flags = int.from_bytes(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))[:4], "little")
    except OSError:
        return []  # a filesystem without flags
    return [word for bit, word in _FLAGS.items() if flags & bit]


def set_lists(descriptor: int, access: AccessList | None, default: AccessList | None) -> None:
    """Give an open file or folder these access lists; where there is none, an inherited one is removed."""
    for name, wanted in ((ACCESS, access), (DEFAULT, default)):
        if wanted is not None:
            os.setxattr(descriptor, name, wanted.for_kernel())
            continue
        try:
            os.removexattr(descriptor, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES, errno.EINVAL):
                raise
