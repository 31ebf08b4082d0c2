"""The epoch protocol: a consistent copy of a Kuzu database that another process is writing to.

The guarantee: every transaction whose commit was acknowledged before the attempt began is in the copy, and no
transaction is there in part. For the application it costs only reads. It relies on how Kuzu writes (0.11, as seen
in its system calls and its source):

* a commit appends to the WAL and syncs it; the main file's used pages stay as they are;
* a checkpoint creates ``.shadow``, writes the changed pages there, applies them to the main file, truncates
  the WAL, truncates the shadow file, removes the WAL, removes the shadow file, in this order;
* new pages (bulk ``COPY``) go to parts of the main file that nothing refers to before the next checkpoint.

So the main file may be copied while one WAL lives: from the time at which an open descriptor pinned it, until a
time at which there was no shadow file (no checkpoint was running) and *after* which the pinned WAL was still
linked and not shorter (no checkpoint had ended). The WAL is copied last: it only grows, and replay ignores an
unfinished record at its end. If there is no WAL, the times of the folder and the main file are compared instead,
after they have not changed for longer than one tick of the filesystem's clock.

The folder layout of Kuzu 0.10 and before truncates its WAL in place and rewrites several files; there every file
but ``.wal`` and ``.lock`` must be the same at both ends (inode, size, times to the nanosecond), likewise the set of
names; ``.shadow`` must be empty, and no ``catalog.shadow`` or ``metadata.shadow`` there. The same rule, with the WAL
included, copies a database that a crash left in a checkpoint and that nobody has open.

One gap is in Kuzu itself: rows of a bulk ``COPY`` are never in the WAL but become durable with the checkpoint
that its commit forces. Until that checkpoint begins, what a crash would leave, and what a copy holds, is the
transaction's other statements without them. The files do not show which commits are of this kind. The attempt
therefore waits until the last commit in its copy was followed by another one, or not by a checkpoint for a time
that grows with the load and with the size of the database (``_settled``). A transaction that mixes ``COPY``
with other statements *and* whose checkpoint is delayed for longer, by an open read transaction or because the
application is stopped, can still be in the copy in part.

This code must never run in the application's own process: closing any descriptor of the database would drop
that process's lock. Scriptorium runs in processes of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scriptorium.fs import reflink
from scriptorium.fs.atomic import sync_file
from scriptorium.fs.open_files import holders_of, lock_holder
from scriptorium.sources.kuzu.layout import Layout, companion

CLOCK_TICK = 0.02  # seconds; file times move in steps of a kernel tick (at most 10 ms) before Linux 6.13
_SETTLED = 1.0  # seconds without a checkpoint after the last commit, on a machine with idle processors
_REWRITTEN = 32 << 20  # the least bytes a second that a checkpoint reads before its ``.shadow`` exists
_SETTLED_AT_MOST = 600.0
_ABANDONED = 10.0  # seconds without a change
_CHECKPOINT_RECORD = 0xFE
_PAGE = 4096


class EpochEnded(Exception):
    """The attempt is void: a checkpoint began, or something else changed.

    ``done`` and ``seconds``: bytes copied until then, and how long that took."""

    def __init__(self, reason: str, done: int = 0) -> None:
        super().__init__(reason)
        self.done = done
        self.seconds = 0.0


@dataclass(frozen=True, slots=True)
class Copied:
    """How a copy was made (``reflink`` or ``copy``), by which rule, and its bytes."""

    how: str
    rule: str
    bytes: int


def attempt(layout: Layout, target: Path, *, paused: bool = False) -> Copied:
    """One attempt to copy the database to ``target`` (a new path; companions go beside it). Raises ``EpochEnded``;
    what was copied until then is the caller's to remove."""
    try:
        if checkpointing(layout):
            raise EpochEnded("a checkpoint is under way")
        if _shadowed(layout):
            return _still_files(layout, target, paused=paused, crashed=True)
        if layout.folder:
            return _still_files(layout, target, paused=paused, crashed=False)
        return _one_epoch(layout, target, paused=paused)
    except reflink.CameShort as short:
        raise EpochEnded("a file became shorter while it was copied") from short
    except FileNotFoundError as gone:
        raise EpochEnded(f"{Path(os.fsdecode(gone.filename or '?')).name} vanished") from gone


def checkpointing(layout: Layout) -> bool:
    """Whether a checkpoint is running, and not one that a crash interrupted.

    The lock alone is not enough: an application that opened and closed its own database file, for example for a backup,
    has lost its lock. Open descriptors are not enough either: they may be hidden in a container. So it was a crash if
    there is neither, and nothing was written for some seconds.
    """
    try:
        if not _shadowed(layout):
            return False
        if lock_holder(layout.locked) is not None or next(holders_of(layout.files()), None) is not None:
            return True
        return time.time() - max(path.stat().st_mtime for path in layout.files()) < _ABANDONED
    except FileNotFoundError:
        return True


def _shadowed(layout: Layout) -> bool:
    if not layout.folder:
        return os.path.lexists(layout.shadow)
    if layout.shadow.exists() and layout.shadow.stat().st_size:
        return True
    return any(path.name.endswith(".shadow") and path != layout.shadow for path in layout.files())


class _Epoch:
    """One pinned epoch of a single-file database, and the checks on it."""

    def __init__(self, layout: Layout, main: int, wal: int | None, *, paused: bool) -> None:
        self._layout = layout
        self._main = main
        self.wal = wal
        self._identity = _identity(os.fstat(main))
        self._header = os.pread(main, _PAGE, 0)
        self._copied_wal = 0
        self._still: tuple[object, ...] | None = None
        if self._shadow():
            raise EpochEnded("a checkpoint is under way")
        if wal is None:
            self._still = self._times()
            if not paused:
                time.sleep(CLOCK_TICK)  # a change within the same tick would not change the times
                if self._times() != self._still:
                    raise EpochEnded("the database is being written to, and has no WAL to pin")
        elif os.fstat(wal).st_nlink == 0:
            raise EpochEnded("the WAL was replaced")

    def _shadow(self) -> bool:
        return os.path.lexists(self._layout.shadow)

    def _times(self) -> tuple[object, ...]:
        folder = self._layout.path.parent.stat()
        return (_print(os.fstat(self._main)), folder.st_mtime_ns, folder.st_ctime_ns)

    def check(self, done: int = 0) -> None:
        """A quick check between pieces: raise ``EpochEnded`` if the copy is void already."""
        if self._shadow():
            raise EpochEnded("a checkpoint began", done)
        if self.wal is None:
            if os.path.lexists(self._layout.wal):
                raise EpochEnded("the database began to be written to", done)
        elif os.fstat(self.wal).st_nlink == 0:
            raise EpochEnded("a checkpoint took the WAL", done)

    def copy_wal(self, target: Path) -> None:
        assert self.wal is not None
        size = os.fstat(self.wal).st_size
        reflink.copy(self.wal, target, size, self.check)
        self._copied_wal = size
        if size and os.pread(self.wal, 1, size - 1) == bytes([_CHECKPOINT_RECORD]):
            raise EpochEnded("the WAL ends in a checkpoint")

    def settle(self) -> None:
        """Wait until it is certain that the last copied commit has forced no checkpoint."""
        assert self.wal is not None
        began, settled, calm = time.monotonic(), _settled(os.fstat(self._main).st_size), _settled(0)
        while (waited := time.monotonic() - began) < 4 * settled:
            self.check()
            found = os.fstat(self.wal)
            if found.st_size > self._copied_wal:
                return  # the next commit began
            passed = waited >= settled or time.time() - found.st_mtime >= settled  # a clock may have been set back
            if passed and time.time() - os.fstat(self._main).st_mtime >= calm:
                return
            time.sleep(0.005)

    def confirm(self) -> None:
        """Check after the last byte that the epoch has not ended. The order of the checks matters."""
        if self._shadow():
            raise EpochEnded("a checkpoint began")
        if self.wal is not None:
            pinned = os.fstat(self.wal)
            if pinned.st_nlink == 0 or pinned.st_size < self._copied_wal:
                raise EpochEnded("a checkpoint took the WAL")
            if _identity(self._layout.wal.stat()) != _identity(pinned):
                raise EpochEnded("the WAL was replaced")
        elif self._times() != self._still or os.path.lexists(self._layout.wal):
            raise EpochEnded("the database began to be written to")
        if _identity(self._layout.path.stat()) != self._identity or os.pread(self._main, _PAGE, 0) != self._header:
            raise EpochEnded("the database file was replaced")


def _settled(size: int) -> float:
    """The longest time after a commit until the checkpoint that it forced is visible, in a database of that many bytes.

    A checkpoint works on one table after another. ``.shadow`` exists once the first page is changed in place; before
    that, changed columns of earlier tables are read completely and written to new pages (measured: 0.9 to 2 s at
    131 MB, 3.6 s at 515 MB, a third of it without a write). If processes wait for a processor, the time grows with
    their number."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min((_SETTLED + size / _REWRITTEN) * max(1.0, waiting), _SETTLED_AT_MOST)


@contextlib.contextmanager
def _opened_wal(layout: Layout, *, paused: bool) -> Iterator[int | None]:
    """The pinned WAL; ``None`` if there is none. A writer creates it at its next commit: a short wait is worth it,
    because an epoch that has just begun has the most time left."""
    until = time.monotonic() + (0.0 if paused else CLOCK_TICK)
    with contextlib.ExitStack() as stack:
        handle = None
        while handle is None:
            try:
                handle = stack.enter_context(reflink.opened(layout.wal))
            except FileNotFoundError:
                if time.monotonic() >= until:
                    break
                time.sleep(0.002)
        yield handle


def _one_epoch(layout: Layout, target: Path, *, paused: bool) -> Copied:
    with reflink.opened(layout.path) as main, _opened_wal(layout, paused=paused) as wal:
        epoch = _Epoch(layout, main, wal, paused=paused)
        size = os.fstat(main).st_size
        with _timed():
            how = reflink.copy(main, target, size, epoch.check)
            if wal is not None:
                epoch.copy_wal(companion(target, ".wal"))
                if not paused:
                    epoch.settle()
            epoch.confirm()
    for path in (target, companion(target, ".wal")):
        if path.exists():
            sync_file(path)
    return Copied(how, "paused copy" if paused else "epoch copy", size)


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    except EpochEnded as ended:
        ended.seconds = time.monotonic() - began
        raise


def _still_files(layout: Layout, target: Path, *, paused: bool, crashed: bool) -> Copied:
    """Copy files that must not change meanwhile; only the WAL of a living folder layout may grow."""
    growing = {layout.wal} if layout.folder and not crashed else set()
    first = _prints(layout, growing)
    if not paused:
        time.sleep(CLOCK_TICK)
    if _prints(layout, growing) != first:
        raise EpochEnded("the database is being written to")
    if layout.folder:
        target.mkdir(mode=0o700)
    how, total, wal_size = "reflink", 0, 0

    def check(done: int) -> None:
        if _prints(layout, growing) != first:
            raise EpochEnded("the database is being written to", total + done)

    for path in sorted(layout.files(), key=lambda path: path == layout.wal):
        copy = (
            target / path.name if layout.folder else target.with_name(target.name + path.name[len(layout.path.name) :])
        )
        with reflink.opened(path) as handle:
            size = os.fstat(handle).st_size
            done = reflink.copy(handle, copy, size, check)
        how = "copy" if size and done == "copy" else how
        total += size
        wal_size = size if path == layout.wal else wal_size
    if _prints(layout, growing) != first or (layout.wal.exists() and layout.wal.stat().st_size < wal_size):
        raise EpochEnded("a checkpoint began", total)
    if crashed and checkpointing(layout):
        raise EpochEnded("the application opened the database", total)
    for copy in [target, *target.iterdir()] if layout.folder else target.parent.iterdir():
        sync_file(copy)
    rule = "paused copy" if paused else "copy of a stopped database" if crashed else "epoch copy"
    return Copied(how, rule, total)


def _prints(layout: Layout, growing: set[Path]) -> dict[str, object]:
    return {
        path.name: None if path in growing or path.name == ".lock" else _print(path.stat()) for path in layout.files()
    }


def _identity(found: os.stat_result) -> tuple[int, int]:
    return (found.st_dev, found.st_ino)


def _print(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
