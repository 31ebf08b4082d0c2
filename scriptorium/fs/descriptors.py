"""Files and folders opened by descriptors, so that nobody can replace them meanwhile.

A library may belong to an unprivileged user while Scriptorium runs as root. That user can rename folders and make
links at any time. So a path is walked once, one name after the other, and its end is held open. Everything below
is opened by its name in the folder above it, without following links.

A link in a path is followed only if its maker gains no access by it: the link belongs to root, to us, or to the owner
of what it leads to. (The kernel's ``protected_symlinks`` is a similar rule for folders that everybody may write to.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scriptorium.errors import Untrusted

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # what the kernel follows before it says ELOOP


@contextmanager
def reached(path: Path | bytes) -> Iterator[tuple[int, bytes]]:
    """The folder that contains what the path leads to, as a descriptor that is open during the block, and the name in
    this folder.

    The name is ``.`` if the path leads to ``/``. It is not the name of a link when the block begins. Raises
    ``Untrusted`` for a link that leads to what its maker does not own, and ``OSError`` as ``stat`` does.
    """
    parent, name = _reach(path)
    try:
        yield parent, name
    finally:
        os.close(parent)


@contextmanager
def folder_at(path: Path | bytes) -> Iterator[int]:
    """A descriptor of the folder that the path leads to, open for reading during the block.

    Raises ``Untrusted`` for a link that leads to what its maker does not own, and ``OSError`` as ``open`` does.
    """
    with reached(path) as (parent, name):
        descriptor = os.open(name, FOLDER, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(path: Path | bytes) -> int:
    """A descriptor of the file that the path leads to, for reading; the caller closes it. Raises like ``folder_at``.

    A pipe does not block; the caller checks what it opened, and refuses it.
    """
    with reached(path) as (parent, name):
        return os.open(name, FILE, dir_fd=parent)


def read_file(path: Path, most: int = 1 << 20) -> tuple[bytes, int]:
    """The first ``most`` bytes of a regular file, and its owner. Raises like ``folder_at``, and ``OSError`` if it is
    not a regular file."""
    with os.fdopen(open_file(path), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(most), status.st_uid


class Descent:
    """Folders one inside the other, each entered by its name in the one above it, and left again.

    At most ``most`` of them are open at a time, whatever the depth. A folder that was closed is opened again by ``..``,
    and must be the same folder. The first and the last folder stay open.
    """

    def __init__(self, root: int, *, most: int = 256) -> None:
        self._most = max(most, 3)
        self._open: list[int] = [os.dup(root)]  # -1: closed
        self._known: list[tuple[int, int]] = [_identity(root)]

    @property
    def descriptor(self) -> int:
        """The folder that was entered last; valid until the next ``enter`` or ``leave``."""
        return self._open[-1]

    def held(self, depth: int) -> int:
        """The descriptor of the folder at this depth (0: the first one); -1 if it is closed."""
        return self._open[depth]

    def enter(self, name: bytes) -> int:
        """Enter a folder in the last one. Raises ``OSError``, also for a link; then nothing is entered."""
        inside = os.open(name, FOLDER, dir_fd=self._open[-1])
        self._open.append(inside)
        self._known.append(_identity(inside))
        far = len(self._open) - self._most
        if far > 0 and self._open[far] >= 0:
            os.close(self._open[far])
            self._open[far] = -1
        return inside

    def leave(self) -> int:
        """Go back to the folder above. Returns how many more folders had to be left because they were moved."""
        inside = self._open.pop()
        self._known.pop()
        try:
            if not self._open or self._open[-1] >= 0 or self._again(inside):
                return 0
        finally:
            os.close(inside)
        lost = 0
        while self._open[-1] < 0:
            self._open.pop()
            self._known.pop()
            lost += 1
        return lost

    def _again(self, inside: int) -> bool:
        """Open the last folder again, from a folder inside it."""
        try:
            above = os.open(b"..", FOLDER, dir_fd=inside)
        except OSError:
            return False
        if _identity(above) != self._known[-1]:
            os.close(above)
            return False
        self._open[-1] = above
        return True

    def close(self) -> None:
        while self._open:
            descriptor = self._open.pop()
            if descriptor >= 0:
                os.close(descriptor)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def require_own(descriptor: int, path: Path) -> None:
    """``Untrusted`` unless the open file or folder belongs to us."""
    owner = os.fstat(descriptor).st_uid
    if owner != os.geteuid():
        raise Untrusted(
            f"this belongs to user {owner}, not to us (user {os.geteuid()})",
            on=str(path),
            hint="it is not used. Find out who made it, and remove it",
        )


def require_ours(descriptor: int, path: Path) -> None:
    """``Untrusted`` unless the open file or folder belongs to us and nobody else may write to it."""
    require_own(descriptor, path)
    status = os.fstat(descriptor)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Untrusted("others may write to this", on=str(path), hint=f"chmod go-w {path}")


def _reach(path: Path | bytes) -> tuple[int, bytes]:
    """See ``reached``; the caller closes the descriptor."""
    names = deque(_names(os.fsencode(path)))
    start = b"/" if os.fsencode(path).startswith(b"/") else b"."
    here, links, makers = os.open(start, _PLACE | os.O_DIRECTORY), 0, set[int]()
    try:
        name = b"."
        while names:
            name = names.popleft()
            if name == b"..":
                here, name = _step(here, name), b"."
                continue
            status = _status(here, name, path)
            if status is not None and stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
                makers.add(status.st_uid)
                target = os.readlink(name, dir_fd=here)
                if target.startswith(b"/"):
                    os.close(here)
                    here = os.open(b"/", _PLACE | os.O_DIRECTORY)
                names.extendleft(reversed(_names(target)))
                name = b"."
            elif names:
                here, name = _step(here, name), b"."
        _require_honest(here, name, makers, path)
        return here, name
    except BaseException:
        os.close(here)
        raise


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def _step(here: int, name: bytes) -> int:
    """Enter a folder; the one above it is closed."""
    inside = os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=here)
    os.close(here)
    return inside


def _status(here: int, name: bytes, path: Path | bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(path)) from None


def _require_honest(here: int, name: bytes, makers: set[int], path: Path | bytes) -> None:
    foreign = makers - {0, os.geteuid()}
    if not foreign:
        return
    with suppress(FileNotFoundError):
        owner = os.stat(name, dir_fd=here, follow_symlinks=False).st_uid
        if foreign != {owner}:
            maker = min(foreign - {owner})
            raise Untrusted(
                f"a symbolic link of user {maker} leads to what belongs to user {owner}",
                on=os.fsdecode(path),
                hint="links are followed only if they belong to root, to us, or to the owner of what they lead to: "
                "name the real path in the settings, or let root make the link",
            )


def write_whole(descriptor: int, data: bytes | memoryview, write: Callable[[int, memoryview], int] = os.write) -> None:
    """Write all bytes: a single ``write`` may write fewer."""
    rest = memoryview(data)
    while rest:
        rest = rest[write(descriptor, rest) :]
