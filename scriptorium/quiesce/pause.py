"""Snapshots, with the application paused if there is no other way.

It is always resumed: at the end of the copy, after an error, and by a watchdog if we are killed or the limit is
reached. The watchdog is a child that starts before the pause. A copy during which it had to act does not count.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from scriptorium import process
from scriptorium.errors import ScriptoriumError, SettingsError, SnapshotBusy, SourceUnavailable, Untrusted
from scriptorium.fs.descriptors import read_file
from scriptorium.model import Staged
from scriptorium.sources.abilities import pausable
from scriptorium.sources.base import Source
from scriptorium.sources.optional import Pausable
from scriptorium.sources.quiesce import Quiesce

log = logging.getLogger(__name__)

_TRYING = 30.0  # seconds: several pauses in a row may catch a checkpoint
_BETWEEN = 0.02  # seconds the application runs between two pauses
_STANDSTILL = 10.0  # seconds for every thread to stop
_PIPE = -1  # subprocess.PIPE
_WATCHDOG = Path(__file__).with_name("watchdog.py")


def snapshot(source: Source, stage: Path, never: tuple[Path, ...]) -> Staged:
    """Capture the source into the empty folder ``stage`` and examine the copy; pause its application only when
    no consistent copy could be taken and the source says how. Raises what ``capture`` and ``examine`` raise."""
    try:
        source.capture(stage)
    except SnapshotBusy as busy:
        able = pausable(source)
        if able is None or able.quiesce is None:
            raise
        log.info("%s: no copy while the application ran: %s; it is paused for the copy", source.name, busy)
        _capture_paused(able, able.quiesce, stage)
    return source.examine(stage, never)


def _capture_paused(source: Pausable, how: Quiesce, stage: Path) -> None:
    deadline = time.monotonic() + _TRYING
    while True:
        try:
            with paused(how) as pause:
                source.capture_paused(stage)
                pause.still()
            return
        except SnapshotBusy as busy:
            log.info("a copy in a pause does not count: %s", busy)
            for path in stage.iterdir():  # remove the copy, which does not count
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if time.monotonic() > deadline:
                raise
        # let the current checkpoint end; a random time, so that not every pause meets one
        time.sleep(_BETWEEN * random.uniform(0.5, 2))  # noqa: S311


class Pause(Protocol):
    """A pause that lasts."""

    def still(self) -> None:
        """Raise ``SnapshotBusy`` unless the application has been paused all the time."""
        ...


@contextlib.contextmanager
def paused(how: Quiesce) -> Iterator[Pause]:
    """Pause the application while the block lasts. Raises ``SourceUnavailable`` when it cannot be paused."""
    watchdog = _Watchdog(how.limit, how.resume_command or ())
    began = time.monotonic()
    log.info("the application is being paused, for at most %g s", how.limit)
    try:
        if how.pause_command and how.resume_command:
            yield from _by_commands(how, how.pause_command, how.resume_command, watchdog)
        else:
            stopped = _Stopped(watchdog)
            try:
                stopped.stop(_roots(how))
                yield stopped
            finally:
                stopped.resume()
    finally:
        acted = watchdog.acted
        watchdog.dismiss()
        took = time.monotonic() - began
        if acted:
            log.warning("the watchdog resumed the application; the pause took %.2f s", took)
        else:
            log.info("the application runs again after a pause of %.2f s", took)


def _by_commands(how: Quiesce, pause: Sequence[str], resume: Sequence[str], watchdog: _Watchdog) -> Iterator[Pause]:
    try:
        process.run(pause, timeout=how.limit, users=True)
    except BaseException:  # also Ctrl-C: the pause may be half done
        with contextlib.suppress(ScriptoriumError):
            _resume_by(resume, how.limit, watchdog)
        raise
    try:
        yield watchdog
    finally:
        _resume_by(resume, how.limit, watchdog)


def _resume_by(resume: Sequence[str], limit: float, watchdog: _Watchdog) -> None:
    """Run the command; if it fails or is interrupted, the watchdog runs it once more."""
    if watchdog.acted:
        return
    try:
        process.run(resume, timeout=limit, users=True)
    except BaseException as error:
        if not watchdog.resumes(limit) or not isinstance(error, ScriptoriumError):
            raise


class _Watchdog:
    def __init__(self, limit: float, resume: Sequence[str]) -> None:
        argv = [sys.executable, "-I", str(_WATCHDOG), str(limit), *resume]
        self._child = process.start(argv, stdin=_PIPE, stderr=None, outlive_us=True, users=True)
        self._expect("ready")

    def _expect(self, word: str) -> None:
        assert self._child.stdout is not None
        if self._child.stdout.readline() != f"{word}\n".encode():
            raise SnapshotBusy("the pause took longer than its limit", hint="raise 'limit' of the quiesce setting")

    def _send(self, line: str) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or its input was closed
            self._child.stdin.write(f"{line}\n".encode())
            self._child.stdin.flush()

    def will_resume(self, pid: int) -> None:
        """From here on the process is continued even if we are killed."""
        self._send(f"stop {pid}")
        self._expect("ok")

    @property
    def acted(self) -> bool:
        return self._child.poll() is not None

    def resumes(self, limit: float) -> bool:
        """Let it resume the application now, as if we had died; returns whether that succeeded."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        with contextlib.suppress(Exception):
            return self._child.wait(timeout=limit) == 0
        return False

    def still(self) -> None:
        if self.acted:
            raise SnapshotBusy(
                "the application was resumed before the copy was done", hint="raise 'limit' of the quiesce setting"
            )

    def dismiss(self) -> None:
        self._send("done")
        with contextlib.suppress(Exception):
            self._child.wait(timeout=5)
        process.end(self._child)


class _Stopped:
    """Processes stopped by SIGSTOP, which is asynchronous: they stand still when every thread is in state T."""

    def __init__(self, watchdog: _Watchdog) -> None:
        self._watchdog = watchdog
        self._pids: list[int] = []

    def stop(self, roots: Callable[[], set[int]]) -> None:
        deadline = time.monotonic() + _STANDSTILL
        while True:
            family = _with_descendants(roots())
            new = sorted(family - set(self._pids))
            for pid in new:
                self._watchdog.will_resume(pid)
                self._pids.append(pid)
                self._signal(pid, signal.SIGSTOP)
            if not new and all(_standing(pid) for pid in self._pids):
                return  # a second look after the last one stopped found no new process
            if time.monotonic() > deadline:
                raise SnapshotBusy(
                    "the application's threads did not all stop", hint="see what they wait for, try again"
                )
            time.sleep(0.002)

    def _signal(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise SourceUnavailable(
                f"process {pid} may not be paused by this user", hint="run as its user, or use pause_command"
            ) from error

    def still(self) -> None:
        self._watchdog.still()
        if not all(_standing(pid) for pid in self._pids):
            raise SnapshotBusy("something resumed the application before the copy was done", hint="try again")

    def resume(self) -> None:
        for pid in reversed(self._pids):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)


def _roots(how: Quiesce) -> Callable[[], set[int]]:
    if how.pid is not None:
        text, owner = str(how.pid), 0
    elif how.pid_file is not None:
        try:
            content, owner = read_file(how.pid_file, 4096)
        except OSError as error:
            raise SourceUnavailable(
                "the pid file cannot be read", on=str(how.pid_file), hint="is it running?"
            ) from error
        text = content.decode("utf-8", "replace")
    else:
        assert how.pid_command is not None
        owner = 0
        text = process.run(how.pid_command, timeout=how.limit, users=True).stdout.decode("utf-8", "replace")
    try:
        pids = {int(word) for word in text.split()}
    except ValueError:
        raise SettingsError("quiesce expects process ids", on=text.strip()[:80]) from None
    if not pids or min(pids) <= 1 or os.getpid() in pids:
        raise SourceUnavailable(
            "there is no process to pause", on=text.strip()[:80], hint="is the application running?"
        )
    for pid in pids:
        if not Path(f"/proc/{pid}").exists():
            raise SourceUnavailable(
                "the process to pause is not there", on=str(pid), hint="is the application running?"
            )
        _require_its_own(pid, owner, str(how.pid_file))
    return lambda: pids


def _require_its_own(pid: int, owner: int, file: str) -> None:
    """The writer of a pid file must not be able to make root stop another user's process."""
    with contextlib.suppress(FileNotFoundError):
        user = Path(f"/proc/{pid}").stat().st_uid
        if owner not in (0, os.geteuid(), user):
            raise Untrusted(
                f"the pid file of user {owner} names a process of user {user}",
                on=f"{file}: {pid}",
                hint="have the application write it as the user that it runs as, or give the pid file to root",
            )


def _with_descendants(roots: set[int]) -> set[int]:
    """The processes and everything that descends from them, ourselves and our own children never included."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _stat(entry / "stat", 1)):
            children.setdefault(int(parent), []).append(int(entry.name))
    family: set[int] = set()
    rest = list(roots)
    while rest:
        pid = rest.pop()
        if pid not in family and pid != os.getpid():
            family.add(pid)
            rest += children.get(pid, [])
    return family


def _standing(pid: int) -> bool:
    """Whether every thread is stopped (T, t) or has ended."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return True
    return all(_stat(thread / "stat", 0) in ("T", "t", "Z", "X", "") for thread in threads)


def _stat(path: Path, field: int) -> str:
    """A field after the command's name: 0 is the state, 1 the parent; ``""`` when the process has ended."""
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()[field]
    except (OSError, IndexError):
        return ""
