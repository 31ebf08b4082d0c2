"""The reason why a file cannot be read or written, in words, and what to do about it."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

_KNOWN: dict[int, tuple[str, str]] = {
    errno.EROFS: ("it is on a filesystem that is mounted read-only", "mount it for writing, or name another place"),
    errno.ENOSPC: ("the disk is full", "free some space there"),
    errno.EDQUOT: ("the user's quota is used up", "free some space, or raise the quota"),
    errno.EFBIG: ("the filesystem takes no file of this size", "use another filesystem"),
    errno.EIO: ("the disk reports an error", "look at dmesg, and check the disk"),
    errno.ESTALE: ("the network filesystem does not know it any more", "mount it again"),
    errno.ENOTCONN: ("its filesystem is not connected any more", "mount it again"),
    errno.EHOSTDOWN: ("the host of its filesystem does not answer", "check the network, and mount it again"),
    errno.ETIMEDOUT: ("its filesystem does not answer", "check the network, and mount it again"),
    errno.ENAMETOOLONG: ("its name is too long for the filesystem", "use a shorter one"),
    errno.EMFILE: ("this process may open no more files", "raise the limit: ulimit -n"),
    errno.ENFILE: ("this machine can open no more files", "raise fs.file-max, or end what holds so many"),
    errno.ELOOP: ("its links lead in a circle, or a link is where none is allowed", "look at the links of its path"),
    errno.ENOENT: ("it does not exist", "check the path; is its filesystem mounted?"),
    errno.ENOTDIR: ("there is a file where a folder is expected", "check the path"),
    errno.EISDIR: ("there is a folder where a file is expected", "check the path"),
    errno.ENOMEM: ("there is not enough memory", "end what needs it, and try again"),
    errno.EBUSY: ("something uses it, or is mounted there", "find out what: lsof, findmnt"),
}


def reason_of(error: OSError) -> str:
    """The reason, as a sentence about the file or folder."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"permission denied to the user {_name(os.geteuid())}"
    known = _KNOWN.get(error.errno or 0)
    return known[0] if known else error.strerror or str(error) or type(error).__name__


def advice(error: OSError, path: Path | str | None = None) -> str:
    """What to do next; empty if that is not known. ``path``: where it happened."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return _rights(Path(path or os.fsdecode(error.filename or ".")))
    known = _KNOWN.get(error.errno or 0)
    return known[1] if known else ""


def cannot_write(folder: Path) -> OSError:
    """Why a folder may not be written to: ``os.access`` does not say the reason."""
    read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    number = errno.EROFS if read_only else errno.EACCES
    return OSError(number, os.strerror(number), str(folder))


def _rights(path: Path) -> str:
    while True:
        try:
            owner = path.stat().st_uid
        except OSError:
            if path == path.parent:
                return "give this user the right to it"
            path = path.parent
            continue
        break
    if os.geteuid() == 0:
        return "root may not either: is it immutable (lsattr), or on a network filesystem that maps root to nobody?"
    if owner == os.geteuid():
        return f"{path} belongs to this user: look at its mode (chmod u+rwX), and at the folders above it"
    return f"run it as {_name(owner)}, who owns {path}, or give this user the right"


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def no_space(error: OSError) -> bool:
    """Whether this says that the disk is full or the quota reached."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
