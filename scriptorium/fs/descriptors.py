"""Files and folders reached by descriptors, so that nobody can put something else in their place meanwhile.

A library may belong to an unprivileged user while Scriptorium runs as root. That user can rename folders and make
links at any time. So a path is walked once, one name after the other; what was reached is held open; everything below
it is opened by its name inside the folder before it, without following links.

A link on the way is followed only where it gives its maker nothing: it belongs to root, to us, or to the owner of what
it leads to. (The kernel's ``protected_symlinks`` has the same idea for folders that everybody may write.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scriptorium.errors import Untrusted

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # what the kernel follows before it says ELOOP


@contextmanager
def folder_at(path: Path | bytes) -> Iterator[int]:
    """A descriptor of the folder that the path leads to, open for reading, for the length of the block.

    Raises ``Untrusted`` for a link that leads to what its maker does not own, and ``OSError`` as ``open`` does.
    """
    parent, name = _reach(path)
    try:
        descriptor = os.open(name, FOLDER, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(path: Path | bytes) -> int:
    """A descriptor of the file that the path leads to, for reading; the caller closes it. Raises like ``folder_at``.

    A pipe does not block, and is for the caller to refuse: it looks at what it opened.
    """
    parent, name = _reach(path)
    try:
        return os.open(name, FILE, dir_fd=parent)
    finally:
        os.close(parent)


def require_ours(descriptor: int, path: Path) -> None:
    """``Untrusted`` unless the open file or folder belongs to us and nobody else may write to it."""
    facts = os.fstat(descriptor)
    if facts.st_uid != os.geteuid():
        raise Untrusted(
            f"this belongs to user {facts.st_uid}, not to us (user {os.geteuid()})",
            on=str(path),
            hint="it is not used. Look who made it, and remove it",
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Untrusted("others may write to this", on=str(path), hint=f"chmod go-w {path}")


def _reach(path: Path | bytes) -> tuple[int, bytes]:
    """The folder that holds what the path leads to (a descriptor that the caller closes), and its name there.

    The name is ``.`` where the path leads to a root. What has the name is no link now; whoever opens it with
    ``O_NOFOLLOW`` is told when that changes.
    """
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
            facts = _facts(here, name, path)
            if facts is not None and stat.S_ISLNK(facts.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
                makers.add(facts.st_uid)
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
    """Go into a folder; the one before it is closed."""
    inside = os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=here)
    os.close(here)
    return inside


def _facts(here: int, name: bytes, path: Path | bytes) -> os.stat_result | None:
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
                hint="links are followed where they belong to root, to us, or to the owner of what they lead to: "
                "name the real path in the settings, or let root make the link",
            )
