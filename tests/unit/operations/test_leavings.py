"""What a process leaves that is killed between writing a small file and renaming it: a later run removes it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scriptorium import workspace
from scriptorium.catalog import begin_run
from scriptorium.catalog.index import read_index
from scriptorium.fs.atomic import exactly, sweep
from scriptorium.manifest import new_id
from scriptorium.model import Backup
from scriptorium.stores.objects.memory import MemoryStore
from scriptorium.words import BackupType, Status, Tier

DAY = 86_400.0


def left(file: Path, *, age: float = 2 * DAY) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("half")
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def backup() -> Backup:
    now = datetime.now(UTC)
    return Backup(new_id(), "n", "bibliotheca", BackupType.FULL, Tier.MANUAL, now, "", 0, Status.RUNNING)


def test_records_of_runs(place: Any) -> None:
    runs = workspace.root(place.settings) / "runs"
    old, young = left(runs / ".aaaaaaaaaaaa.json.0123abcd.partial"), left(runs / ".b.json.0123abcd.partial", age=60)
    begin_run(place.settings, backup())
    assert not old.exists() and young.exists(), "a young one may be somebody's who is writing now"


def test_the_index_of_a_store_elsewhere(tmp_path: Path) -> None:
    store = MemoryStore(name="far")
    old = left(tmp_path / ".far.backup_index.json.0123abcd.partial")
    others = left(tmp_path / ".near.backup_index.json.0123abcd.partial")
    read_index(store, tmp_path, afresh=True)
    assert not old.exists() and others.exists()
    assert (tmp_path / "far.backup_index.json").exists()


def test_who_holds_a_library(place: Any) -> None:
    folder = workspace.root(place.settings)
    old = left(folder / ".bibliotheca.holder.json.0123abcd.partial", age=0)
    others = left(folder / ".other.holder.json.0123abcd.partial", age=0)
    with workspace.lock(place.settings, "bibliotheca", "a test"):
        assert not old.exists() and others.exists()


def test_the_journal_of_a_restore(place: Any) -> None:
    from scriptorium.restore.journal import open_journal
    from scriptorium.sources import AS_CONFIGURED

    settings = place.settings
    restores = workspace.root(settings) / "restores"
    old = left(restores / ".bibliotheca-0123456789ab.json.0123abcd.partial")
    others = left(restores / ".other-0123456789ab.json.0123abcd.partial")

    class Supply:
        manifest = backup()
        options = AS_CONFIGURED

    open_journal(settings, settings.library(), Supply(), "ba9876543210", [])  # type: ignore[arg-type]
    assert not old.exists() and others.exists()


@pytest.mark.parametrize("name", ["x.json", "x*.json", "x[0].json"])
def test_only_what_is_old_and_meant(tmp_path: Path, name: str) -> None:
    meant, other = left(tmp_path / f".{name}.0123abcd.partial"), left(tmp_path / ".x1.json.0123abcd.partial")
    named, young = left(tmp_path / name), left(tmp_path / f".{name}.ba987654.partial", age=10)
    sweep(tmp_path, exactly(name))
    assert not meant.exists() and other.exists() and named.exists() and young.exists()
    sweep(tmp_path, "*")
    assert not other.exists() and named.exists() and young.exists()
    sweep(tmp_path / "nowhere", "*")
