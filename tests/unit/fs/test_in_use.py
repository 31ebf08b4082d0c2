"""Whether a process has a file open for writing: found by a lease, without a lock and without ``/proc``."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from scriptorium.fs import in_use
from scriptorium.fs.in_use import look


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "app.db"
    file.write_bytes(b"KUZU")
    return file


def test_a_file_that_nobody_writes_is_free(database: Path) -> None:
    with database.open("rb"):
        assert look([database, database.with_name("missing")], seconds=0) == in_use.Look()


def test_who_has_it_open_for_writing_is_seen_without_a_lock(database: Path) -> None:
    with database.open("r+b"):
        assert look([database], seconds=0).writers == (f"{database} is open for writing",)
    assert look([database], seconds=0) == in_use.Look()


def test_a_file_that_grows_or_comes_is_seen(database: Path) -> None:
    wal = database.with_name("app.db.wal")

    def write() -> None:
        time.sleep(0.1)
        with wal.open("ab") as file:
            file.write(b"x")

    for _ in range(2):
        writer = threading.Thread(target=write)
        writer.start()
        found = look([database], [wal], seconds=0.4)
        writer.join()
        assert found.writers == (f"{wal} changes",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user here")
def test_files_that_cannot_be_checked_are_not_reported_as_free(database: Path) -> None:
    database.chmod(0o644)
    for folder in database.parents[:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        found = look([database], seconds=0)
        os._exit(0 if found.unknown and not found.writers else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_who_opens_it_while_we_ask_does_not_end_us(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel sends us a signal when another process waits for our lease."""
    real = in_use.fcntl.fcntl
    opened = threading.Thread(target=lambda: database.open("r+b").close())

    def slow(descriptor: int, command: int, argument: int) -> object:
        if command == in_use.fcntl.F_SETLEASE and argument == in_use.fcntl.F_UNLCK:
            opened.start()
            time.sleep(0.2)
        return real(descriptor, command, argument)

    monkeypatch.setattr(in_use.fcntl, "fcntl", slow)
    assert look([database], seconds=0) == in_use.Look()
    opened.join(timeout=10)
    assert not opened.is_alive() and signal.getsignal(signal.SIGURG) == signal.SIG_DFL
