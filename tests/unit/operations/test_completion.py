"""A copy that a run could not make: the backup is degraded until the next run, or ``copy``, makes it."""

from __future__ import annotations

import dataclasses
import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import backup_setup
import pytest
from backup_setup import Home

from scriptorium.catalog import Catalog, runs
from scriptorium.errors import StoreUnavailable
from scriptorium.model import Backup
from scriptorium.operations import backup as operation
from scriptorium.operations.backup import backup, take
from scriptorium.operations.completion import plan_completion
from scriptorium.operations.copy import copy
from scriptorium.operations.prune import prune, remove_by_hand
from scriptorium.report.backup import backup_report
from scriptorium.report.backups import backup_document, backup_row
from scriptorium.requests import BackupRequest, CopyRequest, PruneRequest
from scriptorium.results import BackupResult
from scriptorium.retention import Policy
from scriptorium.words import Status, Tier

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


def away(home: Home) -> Path:
    """The second store does not answer; the file is in its place."""
    place = home.folder / "second"
    if place.exists():
        place.rename(home.folder / "was second")
    place.write_text("not a folder")
    return place


def back(home: Home) -> None:
    (home.folder / "second").unlink()
    if (home.folder / "was second").exists():
        (home.folder / "was second").rename(home.folder / "second")


def run(home: Home, minutes: int, **more: object) -> BackupResult:
    return backup(home.settings, BackupRequest(**more), now=NOW + timedelta(minutes=minutes))  # type: ignore[arg-type]


def listed(home: Home) -> list[Backup]:
    return Catalog(home.settings).backups()


def test_the_next_run_makes_the_copies_that_earlier_ones_could_not(home: Home) -> None:
    away(home)
    first = run(home, 0).backup
    assert first.status is Status.DEGRADED and first.copies[0].status is Status.VERIFIED
    assert [str(one).partition(" answer")[0] for one in first.missing] == ["no copy in second: the store does not"]
    (found,) = listed(home)
    assert found.status is Status.DEGRADED and found.missing == first.missing
    assert backup_row(found, NOW)["Stores"] == "local, not second"
    assert backup_document(found)["missing_copies"] == [{"store": "second", "reason": first.missing[0].reason}]
    again = run(home, 1)  # the store is still away: it is not tried for the earlier backup, too
    assert not again.completed and not again.uncompleted and again.backup.status is Status.DEGRADED
    back(home)
    third = run(home, 2)
    assert third.backup.status is Status.VERIFIED and not third.uncompleted
    assert [(one.backup.id, one.copy.store) for one in third.completed] == [
        (again.backup.id, "second"),
        (first.id, "second"),
    ]
    assert any(
        "copied to second" in name for block in backup_report(third).blocks for name in getattr(block, "pairs", {})
    )
    assert [(one.status, len(one.copies), one.missing) for one in listed(home)] == [(Status.VERIFIED, 2, ())] * 3
    assert list(runs(home.settings)) == []


def test_no_copy_is_missed_in_a_store_that_was_not_asked_for(home: Home) -> None:
    run(home, 0, to=("local",))
    second = run(home, 1)
    assert not second.completed and [len(one.copies) for one in listed(home)] == [2, 1]
    assert [one.status for one in listed(home)] == [Status.VERIFIED] * 2


def test_a_copy_that_still_cannot_be_made_is_a_warning(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    away(home)
    first = run(home, 0).backup
    back(home)

    def failing(*_: object, **__: object) -> None:
        raise StoreUnavailable("the store does not answer", on="second")

    monkeypatch.setattr(operation, "copy_one", failing)
    second = run(home, 1)
    assert second.backup.status is Status.VERIFIED and not second.completed
    assert list(second.uncompleted) == [f"{first.id} in second"]
    monkeypatch.setattr("scriptorium.operations.completion.copy_each", failing)
    assert list(run(home, 2).uncompleted) == ["earlier backups"]


def test_a_safety_backup_waits_for_no_other_copy(home: Home) -> None:
    away(home)
    run(home, 0)
    back(home)
    assert not run(home, 1, tier=Tier.BEFORE_RESTORE).completed
    assert len(plan_completion(home.settings, "lib")) == 1 and plan_completion(home.settings, "other") == ()


def test_so_many_copies_at_most(home: Home) -> None:
    away(home)
    for minutes in range(5):
        run(home, minutes)
    back(home)
    assert [len(run(home, 10 + count).completed) for count in range(3)] == [3, 2, 0]


def test_copy_completes_and_delete_forgets(home: Home) -> None:
    away(home)
    one, other = run(home, 0).backup, run(home, 1).backup
    back(home)
    copy(home.settings, CopyRequest(reference=one.id, to=["second"]))
    assert {found.id: found.status for found in listed(home)} == {one.id: Status.VERIFIED, other.id: Status.DEGRADED}
    remove_by_hand(home.settings, listed(home)[0])
    assert list(runs(home.settings)) == []


def test_a_run_that_was_killed_between_two_stores_is_completed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = home.settings
    plan = operation.plan_backup(settings, BackupRequest(), now=NOW)

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(operation, "note_missing", killed)
        patched.setattr(operation, "finish_run", lambda *_: None)
        patched.setattr(operation, "store_copy", one_store(operation.store_copy))
        with pytest.raises(Killed):
            take(settings, plan)
    monkeypatch.setattr(importlib.import_module("scriptorium.catalog.runs"), "is_alive", lambda *_: False)
    (found,) = listed(home)
    assert found.status is Status.DEGRADED and str(found.missing[0]) == "no copy in second: the run was cut short"
    assert [one.backup.id for one in run(home, 1).completed] == [plan.id]
    assert [one.status for one in listed(home)] == [Status.VERIFIED] * 2


def one_store(real: object) -> object:
    def wrapped(*given: object) -> object:
        if given[-1] == "second":
            raise StoreUnavailable("not reached")
        return real(*given)  # type: ignore[operator]

    return wrapped


def test_what_retention_removes_now_is_not_copied(home: Home) -> None:
    away(home)
    old = backup(home.settings, BackupRequest(), now=NOW - timedelta(days=100)).backup
    new = run(home, 0).backup
    back(home)
    assert [one.backup.id for one in plan_completion(home.settings, "lib")] == [new.id]
    result = copy(home.settings, CopyRequest(missing=True))
    assert [one.backup.id for one in result.copied] == [new.id] and old.id != new.id


def test_a_cleanup_leaves_what_the_next_run_completes(home: Home) -> None:
    """A store that keeps a backup longer could not get it yet: the only copy stays until it has one."""
    away(home)
    old = backup(home.settings, BackupRequest(), now=NOW - timedelta(days=2)).backup
    run(home, 0)
    back(home)
    rules = {"keep": Policy(last=1), "keep_in": {"second": Policy(last=2)}, "prune_after": "complete"}
    settings = home.settings.model_copy(update=rules)
    assert prune(settings, PruneRequest()).removed == ()
    assert [one.backup.id for one in copy(settings, CopyRequest(missing=True)).copied][-1] == old.id
    assert prune(settings, PruneRequest()).removed == (f"{old.id}@local",)


def test_a_store_that_is_away_is_an_error_of_copy_missing(home: Home) -> None:
    one, other = (run(home, minutes, to=("local",)).backup for minutes in range(2))
    away(home)
    with pytest.raises(StoreUnavailable):
        copy(home.settings, CopyRequest(missing=True))
    back(home)
    flipped = Path(home.settings.store("local").location(other.copies[0].key))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    with pytest.raises(Exception, match=f"1 of 2 could not be copied; 1 are copied: {other.id} in second") as failed:
        copy(home.settings, CopyRequest(missing=True))
    assert getattr(failed.value, "exit_code", 0) == 3
    assert [len(found.copies) for found in listed(home) if found.id == one.id] == [2]
    assert dataclasses.replace(listed(home)[0], copies=()).missing == ()
