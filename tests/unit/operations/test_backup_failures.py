"""Taking a backup: what a failure or a kill at any point leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import backup_setup
import pytest
from backup_setup import NOW, Home
from killed_process import Kill, dying_before, killed
from recipe_steps import before

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, LibraryBusy, NoSpace, StoreUnavailable
from scriptorium.fs import atomic
from scriptorium.model import Backup
from scriptorium.operations import backup, copies
from scriptorium.operations.backup import BackupPlan, plan_backup, running
from scriptorium.operations.copies import Prepared
from scriptorium.requests import BackupRequest
from scriptorium.stores import LocalStore
from scriptorium.stores.objects.local import LocalObjects
from scriptorium.words import BackupType, Status
from scriptorium.workspace.space import Space

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests


# --- what fails -------------------------------------------------------------------------------------------------------


def only_a_failed_run(home: Home, plan: BackupPlan) -> Backup:
    (found,) = Catalog(home.settings).backups()
    assert found.id == plan.id and found.copies == ()
    assert home.staging() == []
    return found


def test_an_archive_that_was_damaged_before_it_was_checked_goes_nowhere(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home.settings
    plan = plan_backup(settings, BackupRequest())

    def damage(prepared: Prepared, **_: object) -> None:
        (archive,) = (package.file for package in prepared.packages.values())  # type: ignore[attr-defined]
        data = bytearray(archive.read_bytes())
        data[len(data) // 2] ^= 1  # in the picture, which nothing can shrink
        archive.write_bytes(data)

    before(monkeypatch, backup, "check_packages", damage)
    with pytest.raises(DamageFound) as caught:
        backup.take(settings, plan)
    assert caught.value.exit_code == 3 and "disk" in caught.value.hint
    failed = only_a_failed_run(home, plan)
    assert failed.status is Status.FAILED and "reads back differently" in failed.error
    assert home.names("local") == home.names("second") == []


def test_a_second_store_that_fails_leaves_the_first_copy_and_no_half_one(home: Home) -> None:
    settings = home.settings
    plan = plan_backup(settings, BackupRequest())
    (home.folder / "second").write_text("not a folder")
    result = backup.take(settings, plan)
    assert isinstance(result.failed["second"], StoreUnavailable) and result.backup.status is Status.DEGRADED
    assert [one.store for one in result.backup.missing] == ["second"]
    listing = Catalog(settings).listing()
    (listed,) = listing.backups
    assert listed.id == plan.id and [copy.store for copy in listed.copies] == ["local"]
    assert listed.status is Status.DEGRADED and listing.problems[0].store == "second"
    assert listed.copies[0].status is Status.VERIFIED and listed.missing == result.backup.missing


@contextlib.contextmanager
def disk(at: Path, size: str) -> Iterator[Path]:
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small filesystem can only be mounted by root, where mounting is allowed")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_a_second_store_that_becomes_full_keeps_nothing_of_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with disk(home.folder / "second", "20k"):
        settings = home.settings
        monkeypatch.setattr(workspace.space, "require_space", lambda *_: None)  # the estimate was too low
        result = backup.backup(settings, BackupRequest())
        assert isinstance(result.failed["second"], NoSpace)
        assert home.names("second") == [] and list(settings.store("second").objects.leftovers()) == []
        (listed,) = Catalog(settings).backups()
        assert [copy.store for copy in listed.copies] == ["local"] and listed.copies[0].status is Status.VERIFIED
        assert listed.status is Status.DEGRADED and "full" in listed.missing[0].reason


def test_too_little_space_is_reported_before_anything_is_written(home: Home) -> None:
    with disk(home.folder / "second", "1m"):
        settings = home.settings
        plan = plan_backup(settings, BackupRequest())
        with pytest.raises(NoSpace) as caught:
            backup.take(settings, plan)
        assert "the copy in the store second needs" in str(caught.value) and str(home.folder / "second") in str(
            caught.value
        )
        assert caught.value.exit_code == 7 and home.names("local") == home.names("second") == []
        assert "needs" in only_a_failed_run(home, plan).error


def test_space_is_added_up_by_filesystem(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first store takes the finished archive as it is; each further copy is bytes of its own."""
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr(workspace.space, "require_space", lambda place, needed, what: asked.append((needed, what)))
    for stores, factor in ((["local"], 1), (["second"], 1), (["local", "second"], 2)):
        plan = plan_backup(home.settings, BackupRequest(to=stores))
        assert backup.check_space(home.settings, plan) == Space(dict.fromkeys(stores, 50_010))
        assert asked == [(50_010 * factor, "the backup")]
        asked.clear()
    home.file.write_text("space_factor = 0.5\n" + home.file.read_text())
    assert backup.check_space(home.settings, plan) == Space(dict.fromkeys(stores, 25_005)) and asked == [
        (50_010, "the backup")
    ]
    with disk(home.folder / "elsewhere", "1m") as elsewhere:
        home.file.write_text(home.file.read_text().replace('"second"\n', f'"{elsewhere}/second"\n'))
        asked.clear()
        backup.check_space(home.settings, plan_backup(home.settings, BackupRequest()))
        assert asked == [(25_005, "the backup"), (25_005, "the copy in the store second")]


def test_a_library_that_is_held_is_not_backed_up_a_second_time(home: Home) -> None:
    settings = home.settings
    plan = plan_backup(settings, BackupRequest(type=BackupType.DATA))
    with running(settings, plan), pytest.raises(LibraryBusy) as caught:
        backup.take(settings, plan_backup(settings, BackupRequest()))
    assert f"data backup {plan.id}" in str(caught.value) and f"process {os.getpid()}" in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_cancelled_run_is_recorded_as_cancelled(home: Home) -> None:
    settings = home.settings
    plan = plan_backup(settings, BackupRequest())
    with pytest.raises(KeyboardInterrupt), running(settings, plan) as folder:
        (folder / "half").write_text("x")
        (running_now,) = Catalog(settings).backups()
        assert running_now.status is Status.RUNNING
        raise KeyboardInterrupt
    assert only_a_failed_run(home, plan).status is Status.CANCELLED


def test_a_full_disk_under_the_record_does_not_hide_the_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = home.settings

    def full(path: Path, data: bytes, **how: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write", full)
    with pytest.raises(NoSpace), running(settings, plan_backup(settings, BackupRequest())):
        raise NoSpace("the backup does not fit")


# --- killed -----------------------------------------------------------------------------------------------------------

POINTS: dict[str, Kill] = {  # the first two replacements are the lock's and the run's records
    "while staging": dying_before(backup.quiesce, "snapshot", 2),
    "before packing": dying_before(copies, "walk"),
    "while the archive is written": dying_before(os, "readv"),
    "before the archive gets its name": dying_before(Path, "replace", 3),
    "before checking": dying_before(backup, "check"),
    "before the archive is in the store": dying_before(Path, "replace", 4),
    "between archive and manifest": dying_before(LocalObjects, "put_bytes", 1),
    "while the manifest is written": dying_before(LocalObjects, "_beside", 2),
    "before the manifest gets its name": dying_before(Path, "replace", 5),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_leaves_no_half_backup_and_the_next_run_cleans_up(home: Home, point: str) -> None:
    settings = home.settings
    older = plan_backup(settings, BackupRequest(to=["local"]), now=NOW - timedelta(days=1))
    backup.take(settings, older)
    plan = plan_backup(settings, BackupRequest(to=["local"]), now=NOW)
    assert killed(lambda: backup.take(settings, plan), POINTS[point]), "the point was never reached"
    listed = {one.id: one for one in Catalog(settings).backups()}
    assert set(listed) == {older.id, plan.id}
    assert listed[plan.id].copies == () and listed[plan.id].status is Status.FAILED
    assert "cut short" in listed[plan.id].error and listed[older.id].status is Status.VERIFIED
    newer = plan_backup(settings, BackupRequest(to=["local"]), now=NOW + timedelta(hours=1))
    backup.take(settings, newer)
    expected = [f"{one.label}.tar.gz{ending}" for one in (older, newer) for ending in ("", ".json", ".marks.json")]
    assert home.names() == sorted(expected), "what was left in the store is gone"
    assert home.staging() == [] and list(settings.store("local").objects.leftovers()) == []
    records = settings.workspace_folder / "runs"
    assert [json.loads(file.read_text())["status"] for file in records.glob("*.json")] == ["failed"]
    assert Catalog(settings).backups(records=False)[0].id == newer.id


def test_killed_once_the_manifest_is_there_it_is_a_backup(home: Home) -> None:
    settings = home.settings
    plan = plan_backup(settings, BackupRequest(to=["local"]), now=NOW)
    assert killed(lambda: backup.take(settings, plan), dying_before(LocalStore, "annotate"))
    (listed,) = Catalog(settings).backups()
    assert listed.id == plan.id and listed.status is Status.COMPLETE
    backup.take(settings, plan_backup(settings, BackupRequest(to=["local"]), now=NOW + timedelta(hours=1)))
    assert {one.status for one in Catalog(settings).backups()} == {Status.COMPLETE, Status.VERIFIED}
