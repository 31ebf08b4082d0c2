"""Attributes of a file other than contents, owner, mode and times: which are kept, and which are only named.

Extended attributes in ``user.*`` and POSIX access lists are kept. All others belong to the system that the file is on
(capabilities, labels of SELinux, what only root sees), and so do the flags of ``chattr``: they are named, not kept. A
birth time cannot be set; it is ignored.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium.fs.access_lists import ACCESS, DEFAULT, RECORDS, AccessList

KEPT = frozenset(RECORDS)
_GET_FLAGS = 0x80086601
_FLAGS = {0x10: "immutable", 0x20: "append-only"}


@dataclass(frozen=True, slots=True)
class Attributes:
    """``kept``: extended attributes and access lists by name. ``left``: what the file has and is not kept, in words."""

    kept: dict[str, bytes] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    def mode(self, status: os.stat_result) -> int:
        """The mode to record. If there is an access list, the mode gives no additional access without it."""
        mode = stat.S_IMODE(status.st_mode)
        return AccessList.of_kernel(self.kept[ACCESS]).recorded(mode) if ACCESS in self.kept else mode


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


def lists_at(path: bytes) -> Attributes:
    """The access lists of a file or folder that we may not open: they can be read without that right. No link is
    followed."""
    kept: dict[str, bytes] = {}
    for name in KEPT:
        with contextlib.suppress(OSError):
            kept[name] = os.getxattr(path, name, follow_symlinks=False)
    return Attributes({name: value for name, value in kept.items() if _is_list(value)})


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
    """Give an open file or folder these access lists. ``None`` removes a list that was inherited."""
    for name, wanted in ((ACCESS, access), (DEFAULT, default)):
        if wanted is not None:
            os.setxattr(descriptor, name, wanted.for_kernel())
            continue
        try:
            os.removexattr(descriptor, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES, errno.EINVAL):
                raise


@contextlib.contextmanager
def held_open(path: Path) -> Iterator[int]:
    """The descriptor of a file or folder, for ``give``. The folders above it are trusted; it must not be a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def give(source: int, target: int, *, keep_special: bool = False) -> tuple[str, ...]:
    """Give the open ``target`` the owner (as root), access lists, mode and ``user.*`` attributes of ``source``.

    Returns what is not kept, in words. If a list cannot be set, the mode gives the others only what the list denies to
    nobody. ``keep_special``: also set-uid, set-gid and sticky.
    """
    found, attributes = os.fstat(source), attributes_of(source)
    left = list(attributes.left)
    os.fchmod(target, found.st_mode & 0o700)  # in between only the owner may open it
    if os.geteuid() == 0:
        os.fchown(target, found.st_uid, found.st_gid)
    lists = {name: AccessList.of_kernel(value) for name, value in attributes.kept.items() if name in KEPT}
    mode = stat.S_IMODE(found.st_mode) & (0o7777 if keep_special else 0o777)
    try:
        set_lists(target, lists.get(ACCESS), lists.get(DEFAULT))
    except OSError:
        left.append("the access list")
        mode = lists[ACCESS].recorded(mode) if ACCESS in lists else mode
    for name in attributes.kept.keys() - KEPT:
        try:
            os.setxattr(target, name, attributes.kept[name])
        except OSError:
            left.append(f"the attribute {name}")
    os.fchmod(target, mode)
    return tuple(left)


def inherit_nothing(folder: int) -> None:
    """Remove the access lists that a new folder inherited from the one above it: in a folder with a default list, the
    umask has no effect."""
    with contextlib.suppress(OSError):
        set_lists(folder, None, None)
