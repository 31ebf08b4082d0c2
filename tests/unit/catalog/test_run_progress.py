"""How far a run is, read by another process: while it runs, when it has ended, and after it was killed."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scriptorium.catalog import run_progress
from scriptorium.catalog.run_progress import progress_of, recorded, running
from scriptorium.progress import step
from scriptorium.report.progress import progress_document, progress_rows

RUN = "0123456789ab"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_progress, "_EVERY", 0.0)


def test_step_item_bytes_done_and_expected_can_be_read_while_it_runs(place: Any, at_once: None) -> None:
    settings = place.settings
    with recorded(settings, RUN, "backup", "bibliotheca"), step("packing", "x.tar.gz", expected=400) as advance:
        advance(100)
        found = progress_of(settings, RUN[:6])
        assert found is not None and found.alive and (found.operation, found.library) == ("backup", "bibliotheca")
        assert (str(found.step), found.done, found.step.expected) == ("packing x.tar.gz", 100, 400)
        document = progress_document(found)
        assert document["percent"] == 25.0 and document["state"] == "running"
        assert "100 B of 400 B (25%)" in progress_rows(found, datetime.now(UTC))["step"]
    assert running(settings) == [] and progress_of(settings, RUN) is None


def test_an_estimate_that_was_too_low_is_never_more_than_the_whole(place: Any, at_once: None) -> None:
    with recorded(place.settings, RUN, "backup", "bibliotheca"), step("packing", expected=10) as advance:
        advance(25)
        (found,) = running(place.settings)
        assert found.share_done == 1.0 and found.seconds_left == 0.0


def test_a_run_that_was_killed_is_not_shown_as_running(place: Any) -> None:
    settings = place.settings
    pid = os.fork()
    if pid == 0:
        with recorded(settings, RUN, "restore", "bibliotheca"), step("restoring", "y", expected=10) as advance:
            advance(4)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    found = progress_of(settings, RUN)
    assert found is not None and not found.alive and progress_document(found)["state"] == "cut short"
    rows = progress_rows(found, datetime.now(UTC))
    assert "cut short" in rows["operation"] and "last step" in rows and "last update" in rows
    later = progress_rows(found, datetime.now(UTC) + timedelta(hours=2))
    assert later["last update"] == "2 hours ago"


def test_it_is_written_about_once_a_second_and_not_for_every_byte(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(run_progress.atomic, "write", lambda file, data, **_: written.append(data))
    with recorded(place.settings, RUN, "backup", "bibliotheca"), step("packing") as advance:
        for _ in range(10_000):
            advance(1)
    assert len(written) < 10


def test_a_workspace_that_takes_no_file_fails_no_run(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_progress.atomic, "write", full)
    with recorded(place.settings, RUN, "backup", "bibliotheca"), step("packing") as advance:
        advance(1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run": 1}'])
def test_what_is_no_progress_is_passed_over(place: Any, content: bytes) -> None:
    folder: Path = place.settings.workspace_folder / "runs"
    folder.mkdir(parents=True)
    (folder / f"{RUN}.progress").write_bytes(content)
    assert running(place.settings) == []
