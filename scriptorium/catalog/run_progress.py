"""How far the runs are: one small file per run, beside the records of runs. Any process can read it.

The run writes it at the beginning of every step, and about once a second while bytes are processed. It does not wait
for the disk: the file is worthless after a power cut. It is removed when the run ends. A file whose process is gone was
left by a run that was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from scriptorium import progress
from scriptorium.errors import DamageFound
from scriptorium.fs import atomic
from scriptorium.manifest import decoded, encoded
from scriptorium.progress import Advance, RunProgress, Step
from scriptorium.settings import Settings

_ENDING = ".progress"
_EVERY = 1.0  # seconds between two writes of one step
_WEEK = 7 * 86_400.0
_REFERENCE = re.compile(r"[0-9a-f-]{4,36}")
_outside: Callable[[], str] = lambda: ""  # noqa: E731


def named_by(outside: Callable[[], str]) -> None:
    """Set the function that returns the id that Prefect gave to the current run; it is called when a run begins."""
    global _outside
    _outside = outside


@contextlib.contextmanager
def recorded(settings: Settings, run: str, operation: str, library: str) -> Iterator[None]:
    """Write the progress of the steps in this block to a file that other processes can read."""
    folder = settings.workspace_folder / "runs"
    writer = _Writer(folder / f"{run}{_ENDING}", _outside(), operation, library)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(folder)
    try:
        with progress.watched_by(writer.step):
            yield
    finally:
        with contextlib.suppress(OSError):
            writer.file.unlink(missing_ok=True)


class _Writer:
    def __init__(self, file: Path, outside: str, operation: str, library: str) -> None:
        self.file = file
        self._run = {
            "run": file.name.removesuffix(_ENDING),
            "outside": outside,
            "operation": operation,
            "library": library,
            "pid": os.getpid(),
            "began": _now(),
        }

    @contextlib.contextmanager
    def step(self, step: Step) -> Iterator[Advance]:
        began, done, due = _now(), 0, time.monotonic() + _EVERY

        def write() -> None:
            document = {
                **self._run,
                "step": step.name,
                "item": step.item,
                "expected": step.expected,
                "done": done,
                "step_began": began,
                "written_at": _now(),
            }
            with contextlib.suppress(OSError):  # only information: a full disk must not end the run here
                atomic.write(self.file, encoded(document), lasting=False)

        def advance(count: int) -> None:
            nonlocal done, due
            done += count
            if time.monotonic() >= due:
                write()
                due = time.monotonic() + _EVERY

        write()
        yield advance
        write()


def _now() -> str:
    return datetime.now(UTC).isoformat()


def running(settings: Settings) -> list[RunProgress]:
    """The progress of every run that has a file, newest first; also of runs that were killed."""
    folder = settings.workspace_folder / "runs"
    found = []
    for file in folder.glob(f"*{_ENDING}") if folder.is_dir() else ():
        with contextlib.suppress(OSError, DamageFound):
            found.append(_read(file))
    return sorted(found, key=lambda one: one.began, reverse=True)


def progress_of(settings: Settings, reference: str) -> RunProgress | None:
    """The progress of the run with this id, Prefect's id, or 4 or more digits of one of them."""
    if not _REFERENCE.fullmatch(reference):
        return None
    meant = [one for one in running(settings) if one.run.startswith(reference) or one.outside.startswith(reference)]
    return meant[0] if len(meant) == 1 else None


def _read(file: Path) -> RunProgress:
    record = decoded(file.read_bytes(), "progress of a run")
    began = record.instant("began")
    return RunProgress(
        run=record.text("run"),
        outside=record.text("outside"),
        operation=record.text("operation"),
        library=record.text("library"),
        step=Step(record.text("step"), record.text("item"), record.optional_number("expected")),
        done=record.number("done"),
        began=began,
        step_began=record.instant("step_began"),
        written_at=record.instant("written_at"),
        alive=is_alive(record.number("pid"), began),
    )


def is_alive(pid: int, since: datetime) -> bool:
    """Whether the process ``pid`` that ran at ``since`` still runs, and is not a later one with the same number."""
    import psutil

    try:
        return psutil.Process(pid).create_time() <= since.timestamp() + 1.0
    except (psutil.Error, ValueError, OverflowError):
        return False


def _sweep(folder: Path) -> None:
    """Remove files that killed runs left more than a week ago."""
    atomic.sweep(folder, f"*{_ENDING}")
    for file in folder.glob(f"*{_ENDING}"):
        if file.stat().st_mtime < time.time() - _WEEK:
            file.unlink(missing_ok=True)
