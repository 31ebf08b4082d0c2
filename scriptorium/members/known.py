"""Hashes that are known from before: a file that did not change since (size, mtime, ctime, inode) keeps its hash.

They lie in a file of the workspace. It is a cache: without it, or where it is damaged, every file is read. A file that
changed less than two seconds before it was read is not remembered: a further change could have the same times.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from pathlib import Path

from scriptorium.fs.atomic import beside, new_file
from scriptorium.members.selection import encoded

_MAGIC = b"scriptorium hashes 1\n"
_NAME, _STATE, _HASH = 16, 16, 32
_LINE = _NAME + _STATE + _HASH
_STATUS = struct.Struct("<qqqQ")
_SETTLED_NS = 2_000_000_000


class KnownHashes:
    """The walk looks up and adds the hash of each file here; ``write`` keeps what was added."""

    def __init__(self, before: dict[bytes, bytes] | None = None) -> None:
        self._before = before or {}
        self._now: dict[bytes, bytes] = {}

    @classmethod
    def read(cls, file: Path) -> KnownHashes:
        """Those that were written; none where the file is missing or damaged."""
        try:
            data = file.read_bytes()
        except OSError:
            return cls()
        body, seal = data[:-_HASH], data[-_HASH:]
        lines = body[len(_MAGIC) :]
        if not body.startswith(_MAGIC) or len(lines) % _LINE or hashlib.sha256(body).digest() != seal:
            return cls()
        starts = range(0, len(lines), _LINE)
        return cls({lines[at : at + _NAME]: lines[at + _NAME : at + _LINE] for at in starts})

    def of(self, path: str, status: os.stat_result) -> str | None:
        """The hash of a file, if it is as it was."""
        found = self._before.get(_name(path))
        return found[_STATE:].hex() if found is not None and found[:_STATE] == _state(status) else None

    def add(self, path: str, status: os.stat_result, sha256: str) -> None:
        """Remember it; ``status`` was taken before the file was read, or when its hash was known."""
        if status.st_ctime_ns < time.time_ns() - _SETTLED_NS and len(sha256) == 2 * _HASH:
            self._now[_name(path)] = _state(status) + bytes.fromhex(sha256)

    def write(self, file: Path) -> None:
        """Replace the file. Where that is not possible, the next backup reads more."""
        body = _MAGIC + b"".join(name + rest for name, rest in self._now.items())
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError), beside(file) as partial, new_file(partial) as target:
            target.write(body + hashlib.sha256(body).digest())


def _name(path: str) -> bytes:
    return hashlib.blake2b(encoded(path), digest_size=_NAME).digest()


def _state(status: os.stat_result) -> bytes:
    state = _STATUS.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hashlib.blake2b(state, digest_size=_STATE).digest()
