"""A paused application is always resumed: at the end, after an error, at the limit, and if we are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium import quiesce
from scriptorium.errors import SettingsError, SnapshotBusy, SourceUnavailable, ToolFailed
from scriptorium.model import Staged
from scriptorium.sources.quiesce import Quiesce

_FAMILY = """
import os, sys, threading, time
for _ in range(3):
    threading.Thread(target=lambda: [sum(range(10_000)) for _ in iter(int, 1)], daemon=True).start()
child = os.fork()
if child:
    open(sys.argv[1], "w").write(f"{os.getpid()} {child}")
while True:
    time.sleep(0.01)
"""


def states(pid: int) -> set[str]:
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def running(pid: int) -> bool:
    return bool(states(pid)) and "T" not in states(pid)


def wait_until(what: Any, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


class App:
    """A process with busy threads and a child of its own."""

    def __init__(self, folder: Path) -> None:
        self.pids = folder / "pids"
        self.process = subprocess.Popen([sys.executable, "-c", _FAMILY, str(self.pids)])
        wait_until(lambda: self.pids.exists() and self.pids.read_text().count(" ") == 1)
        self.pid, self.child = (int(word) for word in self.pids.read_text().split())

    @property
    def standing(self) -> bool:
        return states(self.pid) == {"T"} and states(self.child) == {"T"}

    @property
    def runs(self) -> bool:
        return running(self.pid) and running(self.child)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    one = App(tmp_path)
    yield one
    for pid in (one.child, one.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    one.process.wait()


@pytest.mark.parametrize("way", ["pid", "pid_file", "pid_command"])
def test_every_thread_of_the_process_tree_stops_and_then_runs(app: App, tmp_path: Path, way: str) -> None:
    (tmp_path / "app.pid").write_text(f"{app.pid}\n")
    how = {"pid": app.pid, "pid_file": tmp_path / "app.pid", "pid_command": ("echo", str(app.pid))}[way]
    with quiesce.paused(Quiesce(**{way: how})) as pause:
        assert app.standing
        pause.still()
    wait_until(lambda: app.runs, 2)


def test_it_runs_again_after_an_error(app: App) -> None:
    with pytest.raises(ZeroDivisionError), quiesce.paused(Quiesce(pid=app.pid)):
        assert app.standing
        1 / 0  # noqa: B018
    wait_until(lambda: app.runs, 2)


def test_the_limit_resumes_it_and_the_copy_does_not_count(app: App) -> None:
    with quiesce.paused(Quiesce(pid=app.pid, limit=0.3)) as pause:
        assert app.standing
        wait_until(lambda: app.runs, 5)
        with pytest.raises(SnapshotBusy, match="resumed"):
            pause.still()


def test_a_stranger_who_resumes_it_spoils_the_copy(app: App) -> None:
    with quiesce.paused(Quiesce(pid=app.pid)) as pause:
        os.kill(app.child, signal.SIGCONT)
        with pytest.raises(SnapshotBusy, match="resumed"):
            wait_until(lambda: pause.still(), 2)


_OURS = """
import os, sys, time
from pathlib import Path
from scriptorium import quiesce
from scriptorium.sources.quiesce import Quiesce
with quiesce.paused(Quiesce.model_validate_json(sys.argv[1])):
    Path(sys.argv[2]).touch()
    time.sleep(60)
"""


def _killed_while_pausing(how: Quiesce, mark: Path, number: int) -> None:
    ours = subprocess.Popen([sys.executable, "-c", _OURS, how.model_dump_json(), str(mark)], start_new_session=True)
    try:
        wait_until(mark.exists)
    finally:
        os.killpg(ours.pid, number)
        ours.wait()


def test_our_own_violent_death_resumes_it(app: App, tmp_path: Path) -> None:
    _killed_while_pausing(Quiesce(pid=app.pid), tmp_path / "paused", signal.SIGKILL)
    wait_until(lambda: app.runs, 5)


def test_our_own_violent_death_runs_the_resume_command(tmp_path: Path) -> None:
    how = Quiesce(pause_command=("touch", f"{tmp_path}/stands"), resume_command=("rm", f"{tmp_path}/stands"))
    _killed_while_pausing(how, tmp_path / "paused", signal.SIGKILL)
    wait_until(lambda: not (tmp_path / "stands").exists(), 5)


def test_commands_are_run_once_each(tmp_path: Path) -> None:
    log = tmp_path / "log"
    how = Quiesce(
        pause_command=("sh", "-c", f"echo pause >> {log}"), resume_command=("sh", "-c", f"echo resume >> {log}")
    )
    with quiesce.paused(how):
        assert log.read_text() == "pause\n"
    assert log.read_text() == "pause\nresume\n"


def test_a_pause_command_that_fails_is_the_error_and_resume_is_tried(tmp_path: Path) -> None:
    resumed = tmp_path / "resumed"
    how = Quiesce(pause_command=("false",), resume_command=("touch", str(resumed)))
    with pytest.raises(ToolFailed, match="false"), quiesce.paused(how):
        pytest.fail("not reached")
    assert resumed.exists()


def test_a_resume_command_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    how = Quiesce(pause_command=("true",), resume_command=("sh", "-c", f"echo x >> {log}; test $(wc -l < {log}) = 2"))
    with quiesce.paused(how):
        pass
    assert log.read_text() == "x\nx\n"


def test_a_resume_command_that_keeps_failing_is_reported(tmp_path: Path) -> None:
    how = Quiesce(pause_command=("true",), resume_command=("false",))
    with pytest.raises(ToolFailed, match="false"), quiesce.paused(how):
        pass


def test_ctrl_c_while_the_pause_command_runs_resumes_it(tmp_path: Path) -> None:
    stands = tmp_path / "stands"
    how = Quiesce(pause_command=("sh", "-c", f"touch {stands}; sleep 60"), resume_command=("rm", str(stands)))
    ours = subprocess.Popen(
        [sys.executable, "-c", _OURS, how.model_dump_json(), str(tmp_path / "paused")], stderr=subprocess.DEVNULL
    )
    wait_until(stands.exists)
    ours.send_signal(signal.SIGINT)
    ours.wait(30)
    wait_until(lambda: not stands.exists(), 5)


def test_no_watchdog_stays_behind(app: App) -> None:
    def watchdogs() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes()
                    if b"quiesce/watchdog.py" in words and f"PPid:\t{os.getpid()}" in (entry / "status").read_text():
                        found.append(entry.name)
        return found

    with quiesce.paused(Quiesce(pid=app.pid)):
        assert watchdogs()
    assert watchdogs() == []


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"pid": 2**22 - 3}, SourceUnavailable),
        ({"pid": os.getpid()}, SourceUnavailable),
        ({"pid_file": "/nonexistent/app.pid"}, SourceUnavailable),
        ({"pid_command": ("echo", "no number")}, SettingsError),
        ({"pid_command": ("echo",)}, SourceUnavailable),
        ({"pid_command": ("echo", "1")}, SourceUnavailable),
    ],
)
def test_a_pause_that_is_impossible_is_refused(how: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error), quiesce.paused(Quiesce(**how)):
        pytest.fail("not reached")


class Stub:
    """A source whose captures are scripted; everything else is real."""

    kind, name = "stub", "stub"

    def __init__(self, captures: list[str], how: Quiesce | None) -> None:
        self.captures, self.quiesce, self.seen = captures, how, []

    def capture(self, stage: Path) -> None:
        self._capture(stage, paused=False)

    def capture_paused(self, stage: Path) -> None:
        self._capture(stage, paused=True)

    def _capture(self, stage: Path, *, paused: bool) -> None:
        self.seen.append(paused)
        (stage / "copy").write_text(str(paused))
        if self.captures.pop(0) == "busy":
            (stage / "copy").unlink()
            raise SnapshotBusy("busy")

    def examine(self, stage: Path, never: tuple[Path, ...]) -> Staged:
        return (stage / "copy").read_text()  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("captures", "pausable", "seen", "result"),
    [
        (["good"], True, [False], "False"),
        (["busy", "good"], True, [False, True], "True"),
        (["busy", "busy", "busy", "good"], True, [False, True, True, True], "True"),
        (["busy"], False, [False], None),
    ],
)
def test_a_pause_is_the_last_resort(
    app: App, tmp_path: Path, captures: list[str], pausable: bool, seen: list[bool], result: str | None
) -> None:
    source: Any = Stub(captures, Quiesce(pid=app.pid) if pausable else None)
    (tmp_path / "stage").mkdir()
    if result is None:
        with pytest.raises(SnapshotBusy):
            quiesce.snapshot(source, tmp_path / "stage", ())
    else:
        assert quiesce.snapshot(source, tmp_path / "stage", ()) == result
    assert source.seen == seen
    wait_until(lambda: app.runs, 2)


def test_threads_born_meanwhile_are_caught(app: App) -> None:
    for _ in range(5):
        with quiesce.paused(Quiesce(pid=app.pid)):
            assert app.standing
            assert threading.active_count() >= 1
        wait_until(lambda: app.runs, 2)
