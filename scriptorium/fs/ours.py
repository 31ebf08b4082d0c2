"""Our folders beside living data, recognised by more than their names.

A restore in place makes ``.scriptorium-restore-<id>-<source>`` and, where a rollback had to displace something,
``.scriptorium-aside-<id>-<source>``. Each holds a marker: a small file with the same id as the folder's name. A
folder of the user whose name only begins with ``.scriptorium-`` has none, and belongs to the library.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

from scriptorium.fs.atomic import new_file

PREFIX = ".scriptorium-"
MARKER = "scriptorium.json"
_NAMES = re.compile(r"\.scriptorium-(?:restore|aside|former)-([0-9a-f]{12})(?:-.*)?", re.DOTALL)
_EARLIER = re.compile(r"\.scriptorium-restore-[0-9a-f]{12}-.+", re.DOTALL)
_LONGEST = 4096


def write_marker(folder: int, restore_id: str) -> None:
    """Mark the open folder as ours, durably. It must be new, and only we may be able to write to it."""
    with new_file(MARKER, folder) as file:
        file.write(json.dumps({"scriptorium": "restore", "id": restore_id}).encode("ascii"))


def is_ours(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bool:
    """Whether a folder was made by us: by its name, and the marker in it. Follows no link; changes nothing.

    Earlier versions wrote no marker: their folders have a name of that form, and contain ``incoming`` and ``former``.
    """
    folder = os.fsdecode(path).rstrip("/")
    name = os.path.basename(folder)  # noqa: PTH119 -- Path would change the name
    found = _NAMES.fullmatch(name)
    if found is None or not _is_folder(folder):
        return False
    if _marker_id(folder) == found[1]:
        return True
    return bool(_EARLIER.fullmatch(name)) and all(_is_folder(f"{folder}/{one}") for one in ("incoming", "former"))


def has_marker(folder: int, name: str) -> bool:
    """The same for an open folder, which may be renamed meanwhile. ``name``: the name by which it was opened. An empty
    folder is ours too: we were interrupted before we wrote its marker."""
    found = _NAMES.fullmatch(name)
    inside = set(os.listdir(folder))
    if found is None:
        return False
    return not inside or _marker_id_in(folder) == found[1] or {"incoming", "former"} <= inside


def others_may_write(path: Path, found: os.stat_result | None = None) -> str:
    """Why somebody else may have written what is at this path; empty if only this user can have written it.

    The path itself is examined, not what a link leads to: it must be this user's, and nobody else may write to it.
    ``found``: its status, if it is open already.
    """
    try:
        found = found or os.lstat(path)
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if found.st_uid != os.geteuid():
        return f"{path} belongs to user {found.st_uid}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to {path}"
    return ""


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _marker_id(folder: str) -> str:
    """The id in the marker of a folder; empty if there is no marker."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return _marker_id_in(descriptor)
    finally:
        os.close(descriptor)


def _marker_id_in(folder: int) -> str:
    try:
        descriptor = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        try:
            content = json.loads(file.read(_LONGEST))
        except ValueError:
            return ""
    if not isinstance(content, dict) or content.get("scriptorium") != "restore":
        return ""
    return str(content.get("id"))
