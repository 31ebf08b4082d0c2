"""What a schedule does without a request: it removes leftovers and previous data when they are due, also if a library
is busy."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

import pytest

from flows.backup import backup
from flows.prune import prune
from flows.restore import restore, undo
from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import LibraryBusy, NotFound


def age(folder: Any, by: timedelta) -> None:
    then = time.time() - by.total_seconds()
    for path in (folder, *folder.rglob("*")) if folder.is_dir() else (folder,):
        os.utime(path, (then, then))


def test_previous_data_and_leftovers_go_when_their_time_has_come(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = backup()
    restore(reference=done.id)
    left = chosen.backups / "bibliotheca" / "full_20200101_000000.tar.gz"
    left.write_bytes(b"an archive whose manifest was never written")
    os.setxattr(left, "user.scriptorium.put", b"1")  # as every put leaves it
    prune()
    assert left.exists(), "what is a day old at most may belong to a run that goes on"
    assert list(chosen.home.rglob(".scriptorium-restore-*")), "previous data is kept for a week"

    age(left, timedelta(hours=25))
    monkeypatch.setenv("SCRIPTORIUM__KEEP_PREVIOUS", "0.00000001")
    swept = prune()
    assert not left.exists() and swept.removed == ()
    assert not list(chosen.home.rglob(".scriptorium-restore-*"))
    with pytest.raises(NotFound, match="no previous data"):
        undo()
    assert {one.tier for one in Catalog(chosen.settings).backups()} == {"manual", "before-restore"}


def test_a_library_that_is_busy_keeps_no_other_from_being_pruned(chosen: Any) -> None:
    other = chosen.folder / "other"
    other.mkdir()
    chosen.config.write_text(
        chosen.config.read_text()
        + f'\n[libraries.other]\nsources = [ {{ name = "files", kind = "files", path = "{other}" }} ]\n'
    )
    first, _ = backup(library="other"), backup(library="other")
    with (
        workspace.lock(chosen.settings, "bibliotheca", "backup"),
        pytest.raises(LibraryBusy, match="1 of 2 failed") as caught,
    ):
        prune(policy={"last": 1})
    assert "bibliotheca" in str(caught.value)
    assert first.id not in {one.id for one in Catalog(chosen.settings).backups()}
