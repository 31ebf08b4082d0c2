"""Each check of the epoch protocol, with the event that it must find."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium.fs import reflink
from scriptorium.sources.kuzu import epoch, layout
from scriptorium.sources.kuzu.epoch import EpochEnded

HEADER = b"KUZU\x27\0\0\0"
_LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(600)
"""


@pytest.fixture
def locked() -> Iterator[Callable[[Path], None]]:
    """A process that holds the engine's lock."""
    holders = []

    def lock(path: Path) -> None:
        holders.append(subprocess.Popen([sys.executable, "-c", _LOCK, path], stdout=subprocess.PIPE))
        assert holders[-1].stdout is not None and holders[-1].stdout.readline() == b"\n"

    yield lock
    for holder in holders:
        holder.kill()
        holder.communicate()


def age(*paths: Path) -> None:
    """Old enough for every rule about times."""
    for path in paths:
        os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.fixture
def single(tmp_path: Path) -> Path:
    (tmp_path / "live").mkdir()
    database = tmp_path / "live" / "app.db"
    database.write_bytes(HEADER + os.urandom(20 << 20))
    wal(database).write_bytes(b"committed")
    age(wal(database))
    return database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    database = tmp_path / "live" / "app.db"
    database.mkdir(parents=True)
    for name in ("catalog.kz", "metadata.kz", "data.kz", "n-0.hindex", ".wal", ".shadow", ".lock"):
        (database / name).write_bytes(b"" if name in (".shadow", ".lock") else HEADER + os.urandom(100_000))
    return database


def wal(database: Path) -> Path:
    return database / ".wal" if database.is_dir() else database.with_name("app.db.wal")


def shadow(database: Path) -> Path:
    return database / ".shadow" if database.is_dir() else database.with_name("app.db.shadow")


def attempt(database: Path, tmp_path: Path, **more: Any) -> epoch.Copied:
    (tmp_path / "raw").mkdir()
    return epoch.attempt(layout.find(database), tmp_path / "raw" / "app.db", **more)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], None]:
    """Let something happen right after a file was copied (named by how it ends)."""

    def arrange(after: str, event: Callable[[], object]) -> None:
        real = reflink.copy

        def copy(source: int, target: Path, size: int, check: Any) -> str:
            how = real(source, target, size, check)
            if target.name.endswith(after):
                event()
            return how

        monkeypatch.setattr(reflink, "copy", copy)

    return arrange


def replace(path: Path, content: bytes) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(content)
    beside.rename(path)


EVENTS = {
    "a checkpoint began": lambda db: shadow(db).touch(),
    "a checkpoint came to its end": lambda db: wal(db).unlink(),
    "a checkpoint came to its end, and the next WAL is there": lambda db: replace(wal(db), b"committed and more"),
    "the WAL was put aside by another name": lambda db: [
        wal(db).rename(db.with_name("old")),
        wal(db).write_bytes(b"new"),
    ],
    "a checkpoint truncated the WAL": lambda db: os.truncate(wal(db), 3),
    "the database was replaced": lambda db: replace(db, db.read_bytes()),
    "the database was written to at its head": lambda db: db.open("r+b").write(b"KUZU\x28"),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("paused", [False, True])
def test_an_epoch_that_ended_voids_the_attempt(
    single: Path, tmp_path: Path, meanwhile: Any, locked: Any, event: str, paused: bool
) -> None:
    meanwhile(".wal", lambda: EVENTS[event](single))
    with pytest.raises(EpochEnded):
        attempt(single, tmp_path, paused=paused)


@pytest.mark.parametrize(
    "event", ["a checkpoint began", "a checkpoint came to its end", "the database was replaced"], ids=str
)
def test_also_while_the_main_file_is_copied(single: Path, tmp_path: Path, meanwhile: Any, event: str) -> None:
    meanwhile("app.db", lambda: EVENTS[event](single))
    with pytest.raises(EpochEnded):
        attempt(single, tmp_path)


def test_an_attempt_ends_early_after_a_checkpoint_was_seen(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = []

    def piece(source: int, out: int, at: int, count: int) -> int:
        pieces.append(at)
        if len(pieces) == 1:
            shadow(single).touch()
        return real(source, out, at, count)

    real = reflink._piece
    monkeypatch.setattr(reflink, "_piece", piece)
    monkeypatch.setattr(reflink, "_cloned", lambda *_: False)
    with pytest.raises(EpochEnded) as ended:
        attempt(single, tmp_path)
    assert len(pieces) == 1 and ended.value.done > 0 and ended.value.seconds > 0


def test_a_wal_that_ends_in_a_checkpoint_is_not_taken(single: Path, tmp_path: Path) -> None:
    wal(single).write_bytes(b"committed\xfe")
    with pytest.raises(EpochEnded, match="ends in a checkpoint"):
        attempt(single, tmp_path)


def test_a_checkpoint_under_way_is_met_at_once(single: Path, tmp_path: Path, locked: Any) -> None:
    locked(single)
    shadow(single).touch()
    with pytest.raises(EpochEnded, match="a checkpoint is under way"):
        attempt(single, tmp_path)


@pytest.mark.parametrize("ahead", [0, 3600], ids=["the clock is right", "the clock was set back meanwhile"])
def test_a_commit_that_has_just_been_made_is_watched_for_its_checkpoint(
    single: Path, tmp_path: Path, meanwhile: Any, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """As after a bulk COPY: the rows come with the checkpoint, and not with the WAL."""
    meanwhile(".wal", lambda: os.utime(wal(single), (time.time() + ahead,) * 2))
    monkeypatch.setattr(time, "sleep", lambda seconds: shadow(single).touch())
    with pytest.raises(EpochEnded, match="a checkpoint began"):
        attempt(single, tmp_path)


def test_a_wal_that_grows_is_copied_as_far_as_it_was(single: Path, tmp_path: Path, meanwhile: Any) -> None:
    meanwhile(".wal", lambda: wal(single).open("ab").write(b" and more"))
    copied = attempt(single, tmp_path)
    assert copied.rule == "epoch copy"
    assert (tmp_path / "raw" / "app.db.wal").read_bytes() == b"committed"
    assert (tmp_path / "raw" / "app.db").read_bytes() == single.read_bytes()


def test_the_wal_is_copied_last(single: Path, tmp_path: Path, meanwhile: Any) -> None:
    meanwhile("app.db", lambda: wal(single).open("ab").write(b" while the database was copied"))
    attempt(single, tmp_path)
    assert (tmp_path / "raw" / "app.db.wal").read_bytes() == b"committed while the database was copied"


@pytest.mark.parametrize(
    ("event", "voids"),
    [
        (lambda db: None, False),
        (lambda db: wal(db).touch(), True),
        (lambda db: db.open("r+b").write(b"KUZU"), True),  # the same bytes: only the time differs
        (lambda db: db.with_name("another").touch(), True),  # any change of the folder, to be safe
        (lambda db: [shadow(db).touch(), shadow(db).unlink()], True),  # a whole checkpoint
    ],
)
def test_without_a_wal_nothing_may_change_at_all(
    single: Path, tmp_path: Path, meanwhile: Any, event: Any, voids: bool
) -> None:
    wal(single).unlink()
    meanwhile("app.db", lambda: event(single))
    with pytest.raises(EpochEnded) if voids else contextlib.nullcontext():
        attempt(single, tmp_path)
        assert not (tmp_path / "raw" / "app.db.wal").exists()


def test_a_wal_that_appears_soon_is_waited_for(single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It appears during the wait for the second look; no clock of the test decides when."""
    content, sleep = wal(single).read_bytes(), time.sleep
    wal(single).unlink()

    def appears(seconds: float) -> None:
        if not wal(single).exists():
            wal(single).write_bytes(content)
        sleep(seconds)

    monkeypatch.setattr(epoch.time, "sleep", appears)
    attempt(single, tmp_path)
    assert (tmp_path / "raw" / "app.db.wal").read_bytes() == content


FOLDER_EVENTS = {
    "nothing": (lambda db: None, False),
    "a commit": (lambda db: wal(db).open("ab").write(b"more"), False),
    "the WAL was truncated": (lambda db: os.truncate(wal(db), 0), True),
    "a file was written to": (lambda db: (db / "data.kz").open("r+b").write(b"KUZU"), True),
    "a file grew": (lambda db: (db / "data.kz").open("ab").write(b"page"), True),
    "a file was replaced": (lambda db: replace(db / "catalog.kz", (db / "catalog.kz").read_bytes()), True),
    "a file came": (lambda db: (db / "n-1.hindex").touch(), True),
    "a file went": (lambda db: (db / "n-0.hindex").unlink(), True),
    "a checkpoint began": (lambda db: (db / "metadata.shadow").touch(), True),
    "a checkpoint filled its shadow": (lambda db: shadow(db).write_bytes(b"page"), True),
}


# A WAL that is truncated before it is copied shows in the other files, which a checkpoint changes first.
CASES = [(event, after) for event in FOLDER_EVENTS for after in ("data.kz", ".wal")]
CASES.remove(("the WAL was truncated", "data.kz"))


@pytest.mark.parametrize(("event", "after"), CASES)
def test_the_files_of_the_folder_layout_are_unchanged_except_the_wal(
    folder: Path, tmp_path: Path, meanwhile: Any, event: str, after: str
) -> None:
    happens, voids = FOLDER_EVENTS[event]
    meanwhile(after, lambda: happens(folder))
    with pytest.raises(EpochEnded) if voids else contextlib.nullcontext():
        attempt(folder, tmp_path)
        assert (tmp_path / "raw" / "app.db" / "data.kz").read_bytes() == (folder / "data.kz").read_bytes()


def test_a_folder_that_was_changed_recently_is_left_alone(folder: Path, tmp_path: Path) -> None:
    timer = threading.Timer(0.01, lambda: (folder / "data.kz").open("ab").write(b"page"))
    timer.start()
    with pytest.raises(EpochEnded):
        attempt(folder, tmp_path)
    timer.join()


@pytest.mark.parametrize("name", [".shadow", "catalog.shadow"])
def test_a_checkpoint_of_the_folder_layout_is_met_at_once(folder: Path, tmp_path: Path, locked: Any, name: str) -> None:
    locked(folder / ".lock")
    (folder / name).write_bytes(b"page")
    with pytest.raises(EpochEnded, match="a checkpoint is under way"):
        attempt(folder, tmp_path)


def test_what_a_crash_left_is_copied_whole(single: Path, tmp_path: Path) -> None:
    shadow(single).write_bytes(b"pages")
    with pytest.raises(EpochEnded, match="a checkpoint is under way"):  # for all that can be known
        attempt(single, tmp_path / "live")
    age(single, wal(single), shadow(single))
    copied = attempt(single, tmp_path)
    assert copied.rule == "copy of a stopped database"
    names = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    assert names == {"app.db": single.read_bytes(), "app.db.wal": b"committed", "app.db.shadow": b"pages"}


def test_an_application_that_lost_its_lock_is_still_seen(single: Path, tmp_path: Path) -> None:
    """Kuzu's lock is dropped for good when its own process opens and closes the file, as an in-process backup does."""
    shadow(single).write_bytes(b"pages")
    age(single, wal(single), shadow(single))
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; f = open(sys.argv[1]); time.sleep(600)", single]
    )
    try:
        until = time.monotonic() + 10
        while not epoch.checkpointing(layout.find(single)):
            assert time.monotonic() < until
        with pytest.raises(EpochEnded, match="a checkpoint is under way"):
            attempt(single, tmp_path)
    finally:
        holder.kill()
        holder.wait()


def test_an_application_that_starts_meanwhile_voids_such_a_copy(
    single: Path, tmp_path: Path, meanwhile: Any, locked: Any
) -> None:
    shadow(single).write_bytes(b"pages")
    age(single, wal(single), shadow(single))
    meanwhile("app.db", lambda: locked(single))
    with pytest.raises(EpochEnded, match="opened the database"):
        attempt(single, tmp_path)


def test_a_paused_copy_does_not_wait(single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        pytest.fail(f"slept {seconds} s")

    monkeypatch.setattr(time, "sleep", sleep)
    wal(single).write_bytes(b"committed just now")
    assert attempt(single, tmp_path, paused=True).rule == "paused copy"
