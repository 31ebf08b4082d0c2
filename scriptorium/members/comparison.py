"""Compares the members of a backup with the list in its manifest, in one pass over the members.

A short list is compared entry by entry. A very long one stays on disk: the members seen are written as lines and
hashed, and only when the hash differs from the manifest's are the two lists read again to say what differs.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from scriptorium.manifest import KINDS, decimal_seconds, entry_line, parse_entry_line, readable
from scriptorium.members.ledger import LIST
from scriptorium.model import FileEntry, FileList, Finding

ALTERED = "altered member"
MISSING = "missing member"
EXTRA = "extra member"
_MOST = 1000


class Comparison:
    """Gets every member in the order of the backup, then returns what differs. It holds open files: ``close`` it.

    ``expected`` may become known only at the end (the manifest inside an archive comes after the members).
    """

    def __init__(self, expected: FileList | None = None) -> None:
        self._wanted: dict[str, FileEntry] | None = None
        if expected is not None and expected.entries is not None:
            self._wanted = {entry.path: entry for entry in expected.entries}
        self._expected = expected
        self._findings: list[Finding] = []
        self._digest = hashlib.sha256()
        self._seen: IO[bytes] | None = None
        self._list: IO[bytes] | None = None
        if self._wanted is None:
            self._seen = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by ``close``
            self._list = tempfile.TemporaryFile()  # noqa: SIM115

    def close(self) -> None:
        for file in (self._seen, self._list):
            if file is not None:
                file.close()

    @property
    def needs_every_hash(self) -> bool:
        """Whether members that are not wanted must be hashed, too."""
        return self._wanted is None

    def member(self, entry: FileEntry) -> None:
        """A member of the parts. Without a hash its contents count as right."""
        if self._seen is None:
            self._compare(entry)
        elif entry.kind not in KINDS:  # a device: no list contains one
            self._findings.append(Finding(EXTRA, readable(entry.path)))
        else:
            line = entry_line(entry)
            self._digest.update(line)
            self._seen.write(line)

    def listing(self, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Pass on the contents of the member that holds the list, and keep a copy for later."""
        for chunk in chunks:
            if self._list is not None:
                self._list.write(chunk)
            yield chunk

    def findings(
        self,
        expected: FileList | None = None,
        *,
        whole: bool = True,
        asked: Callable[[str], bool] = lambda _: True,
    ) -> tuple[Finding, ...]:
        """What differs; the first thousand. ``whole``: everything was read to its end, so what was ``asked`` for and
        not seen is missing. ``expected``: when it was not known before."""
        self._expected = self._expected or expected
        if self._expected is None:
            return ()
        if self._seen is not None and not (whole and self._digest.hexdigest() == self._expected.sha256):
            self._read_again(self._expected, whole)
        missing = [Finding(MISSING, readable(path)) for path in self._wanted or () if asked(path)] if whole else []
        return _shortened([*self._findings, *missing])

    def _compare(self, found: FileEntry) -> None:
        assert self._wanted is not None
        wanted = self._wanted.pop(found.path, None)
        if wanted is None:
            self._findings.append(Finding(EXTRA, readable(found.path)))
        elif detail := difference(wanted, found):
            self._findings.append(Finding(ALTERED, readable(found.path), detail))

    def _read_again(self, expected: FileList, whole: bool) -> None:
        """The lists differ somewhere: only now are they loaded into memory."""
        assert self._seen is not None and self._list is not None
        entries = expected.entries
        if entries is None:
            self._list.seek(0)
            if _digest(self._list) != expected.sha256:
                if whole:  # otherwise it may not have been reached
                    self._findings.append(Finding(ALTERED, LIST, "it is not the list that the manifest describes"))
                return
            self._list.seek(0)
            self._wanted = {entry.path: entry for entry in map(parse_entry_line, self._list)}
        else:
            self._wanted = {entry.path: entry for entry in entries}
        self._seen.seek(0)
        for entry in map(parse_entry_line, self._seen):
            self._compare(entry)


def difference(wanted: FileEntry, found: FileEntry) -> str:
    """In which properties a member differs from its record, for a person; empty if it does not."""
    pairs = [
        ("kind", wanted.kind, found.kind),
        ("size", str(wanted.size), str(found.size)),
        ("mode", f"{wanted.mode:04o}", f"{found.mode:04o}"),
        ("mtime", decimal_seconds(wanted.mtime_ns), decimal_seconds(found.mtime_ns)),
        ("target", readable(wanted.target or ""), readable(found.target or "")),
    ]
    if found.sha256 is not None and found.sha256 != wanted.sha256:
        pairs.append(("sha256", f"{(wanted.sha256 or '')[:12]}…", f"{found.sha256[:12]}…"))
    return ", ".join(f"{name} should be {right}, is {wrong}" for name, right, wrong in pairs if right != wrong)


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _shortened(findings: list[Finding]) -> tuple[Finding, ...]:
    if len(findings) <= _MOST:
        return tuple(findings)
    return (*findings[:_MOST], Finding(findings[_MOST].verdict, f"and {len(findings) - _MOST} more"))
