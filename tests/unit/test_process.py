"""Child processes: what they print, how they fail, and that none outlives its purpose."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scriptorium import process
from scriptorium.errors import ToolFailed, ToolMissing, ToolStalled


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def soon(true: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def test_the_output_of_a_child_is_returned() -> None:
    outcome = process.run(["sh", "-c", "cat; echo warned >&2"], input=b"given")
    assert (outcome.status, outcome.stdout, outcome.stderr.strip()) == (0, b"given", "warned")


def test_a_failure_names_how_the_program_ended_and_no_secret() -> None:
    with pytest.raises(ToolFailed, match="sh ended with status 3: the password is \\*\\*\\*") as failure:
        process.run(["sh", "-c", "echo the password is hunter2 >&2; exit 3"], secrets=["hunter2"])
    assert "hunter2" not in repr(failure.value)
    with pytest.raises(ToolFailed, match="SIGKILL"):
        process.run(["sh", "-c", "kill -KILL $$"])


def test_a_program_that_is_not_there_names_its_package() -> None:
    with pytest.raises(ToolMissing, match="nosuchprogram"):
        process.run(["nosuchprogram"])
    with pytest.raises(ToolMissing) as missing:
        process.find_tool("nosuchprogram", package="thepackage")
    assert "apt-get install thepackage" in missing.value.hint


def test_past_its_deadline_a_child_is_ended_with_its_children(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    with pytest.raises(ToolStalled):
        process.run(["sh", "-c", f"sleep 60 & echo $! > {noted}; wait"], timeout=0.5)
    assert soon(lambda: gone(int(noted.read_text())))


def test_output_that_ends_early_is_an_error_at_its_end() -> None:
    with pytest.raises(ToolFailed, match="status 1"), process.stream(["sh", "-c", "echo part; exit 1"]) as output:
        assert output.read() == b"part\n"


def test_only_children_of_the_block_are_ended_with_it() -> None:
    """A server that was started before a failed flow is not ended by the flow."""
    older = process.start(["sleep", "60"])
    younger = None
    try:
        with pytest.raises(ValueError, match="failed"), process.no_child_outlives():
            younger = process.start(["sleep", "60"])
            raise ValueError("failed")
        assert younger is not None and younger.wait(5) != 0
        assert older.poll() is None
    finally:
        for child in (older, younger):
            if child is not None:
                process.end(child)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not here")
def test_a_child_dies_with_us_when_we_are_killed() -> None:
    script = (
        "from scriptorium import process; child = process.start(['sleep', '60']); "
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        # Before it becomes the program, it asks the kernel for that signal; on a busy machine this takes a moment.
        assert soon(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        os.kill(parent.pid, signal.SIGKILL)
    assert soon(lambda: gone(pid))


def test_no_child_has_what_opens_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application that a health check's ``start`` leaves running is such a child."""
    for name in ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_DATABASE_PASSWORD"):
        monkeypatch.setenv(name, "librarian:at the desk")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert b"at the desk" not in process.run(["env"]).stdout
    assert b"at the desk" not in process.run(["env"], env={"MORE": "1"}).stdout
    assert b"PREFECT_API_URL=http" in process.run(["env"]).stdout
    assert b"=at the desk" in process.run(["env"], env={"PREFECT_API_AUTH_STRING": "at the desk"}).stdout


def test_a_stream_with_a_meaning_of_its_own_for_each_status() -> None:
    class Wrong(Exception):
        pass

    words = ["sh", "-c", "cat; echo secret >&2; exit 3"]
    with (
        pytest.raises(Wrong, match=r"3 \*\*\*"),
        process.stream(words, secrets=["secret"], meaning=lambda status, lines: Wrong(f"{status} {lines}")),
    ):
        pass
    with process.stream(words, meaning=lambda status, lines: None) as output:
        assert output.read() == b""


def test_a_stream_may_have_an_input_and_both_outputs(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"in\n")
    with (tmp_path / "input").open("rb") as file:
        words = ["sh", "-c", "cat; echo err >&2"]
        with process.stream(words, stdin=file.fileno(), merged=True) as output:
            assert output.read() == b"in\nerr\n"
