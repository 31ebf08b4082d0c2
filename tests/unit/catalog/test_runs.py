"""Records of runs that left no copy, as the catalog lists them."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from catalog_listing import Shelf, listed

from scriptorium.catalog import begin_run, finish_run, interrupted, runs
from scriptorium.model import Backup
from scriptorium.words import Status


@pytest.fixture
def run(shelf: Shelf) -> Backup:
    backup: Backup = shelf.put()
    for ending in ("", ".json"):
        shelf.path(backup, ending).unlink()
    return dataclasses.replace(backup, copies=(), bytes=0, status=Status.RUNNING, description="a\nb")


def test_a_run_is_listed_while_it_runs_and_when_it_failed(shelf: Shelf, run: Backup) -> None:
    begin_run(shelf.settings, run)
    assert listed(shelf) == [run] and listed(shelf, records=False) == [] and listed(shelf, store="local") == []
    finish_run(shelf.settings, run, Status.FAILED, "the store is full")
    assert listed(shelf) == [dataclasses.replace(run, status=Status.FAILED, error="the store is full")]
    finish_run(shelf.settings, run, Status.CANCELLED, "the run was cancelled")
    assert listed(shelf)[0].status is Status.CANCELLED
    finish_run(shelf.settings, run, Status.COMPLETE)
    assert listed(shelf) == []
    finish_run(shelf.settings, run, Status.COMPLETE)


def test_a_run_that_left_a_copy_is_listed_once(shelf: Shelf) -> None:
    backup = shelf.put()
    finish_run(shelf.settings, dataclasses.replace(backup, copies=()), Status.FAILED, "the second store is full")
    assert listed(shelf) == [backup]


def dead_run(shelf: Shelf, run: Backup) -> None:
    """Recorded by a process that is gone."""
    pid = os.fork()
    if pid == 0:
        begin_run(shelf.settings, run)
        os._exit(0)
    os.waitpid(pid, 0)


def test_a_run_whose_process_is_gone_failed(shelf: Shelf, run: Backup) -> None:
    dead_run(shelf, run)
    (found,) = listed(shelf)
    assert found.status is Status.FAILED and "cut short" in found.error


def test_a_process_that_was_given_the_dead_one_s_number_is_not_the_run(shelf: Shelf, run: Backup) -> None:
    begin_run(shelf.settings, run)
    file = shelf.settings.workspace_folder / "runs" / f"{run.id}.json"
    fields = json.loads(file.read_text())
    fields["written_at"] = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    file.write_text(json.dumps(fields))
    assert listed(shelf)[0].status is Status.FAILED


def test_the_holder_of_the_library_records_dead_runs_as_failed(shelf: Shelf, run: Backup) -> None:
    other = dataclasses.replace(run, id="dddddddddddd", library="other")
    for one in (run, other):
        begin_run(shelf.settings, one)
    cut = interrupted(shelf.settings, "lib")
    assert [(one.id, one.status) for one in cut] == [(run.id, Status.FAILED)]
    assert {one.id: one.status for one in runs(shelf.settings)} == {run.id: Status.FAILED, other.id: Status.RUNNING}
    assert interrupted(shelf.settings, "lib") == ()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"id": "x"}', b"\xff", b"[" * 100_000, b'{"status": "proven"}']
)
def test_a_torn_record_is_ignored(shelf: Shelf, run: Backup, content: bytes) -> None:
    begin_run(shelf.settings, run)
    (shelf.settings.workspace_folder / "runs" / "eeeeeeeeeeee.json").write_bytes(content)
    assert listed(shelf) == [run] and len(interrupted(shelf.settings, "lib")) == 1


def test_records_that_are_many_are_not_kept_for_ever(shelf: Shelf, run: Backup) -> None:
    for number in range(110):
        one = dataclasses.replace(run, id=f"{number:012x}")
        begin_run(shelf.settings, one)
        finish_run(shelf.settings, one, Status.FAILED, "x")
    files = list((shelf.settings.workspace_folder / "runs").iterdir())
    assert len(files) <= 101 and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_a_record_that_cannot_be_written_hides_no_error(shelf: Shelf, run: Backup) -> None:
    shelf.settings.workspace_folder.mkdir(parents=True, exist_ok=True)
    (shelf.settings.workspace_folder / "runs").write_text("in the way")
    begin_run(shelf.settings, run)
    finish_run(shelf.settings, run, Status.FAILED, "x")
    assert list(runs(shelf.settings)) == []
