"""Removing backups: plans with reasons, and what is never removed, whatever has happened since the plan was made."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import LibraryBusy, NotFound, StoreUnavailable, UsageError
from scriptorium.model import Annotations, Backup, Verification
from scriptorium.operations.pin import pin_copies
from scriptorium.operations.prune import carry_out, policy_of, remove_by_hand, sweep_stores
from scriptorium.operations.prune_plan import plan_cleanup
from scriptorium.operations.verify import choose_copies, verify_stored
from scriptorium.requests import VerifyRequest
from scriptorium.retention import Decision, Policy
from scriptorium.settings import TierSettings
from scriptorium.words import BackupType, Status, Tier

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
LAST = Policy(last=1)
Shelf = Any  # the fixture's class; test modules cannot import from conftest


def ids(shelf: Shelf) -> set[str]:
    return {backup.id for backup in Catalog(shelf.settings).backups(records=False)}


def plan(shelf: Shelf, policy: Policy | None = LAST, library: str = "lib") -> dict[str, Decision]:
    return {one.candidate.id: one for one in plan_cleanup(shelf.settings, library, policy, now=NOW)}


def prune(shelf: Shelf, policy: Policy = LAST) -> tuple[str, ...]:
    return carry_out(shelf.settings, "lib", plan_cleanup(shelf.settings, "lib", policy, now=NOW))


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_changes_nothing_and_has_reasons(shelf: Shelf) -> None:
    backups = [shelf.put(day * DAY) for day in range(4)]
    other = shelf.put(library="other")
    before = ids(shelf)
    found = plan(shelf)
    assert [one.id for one in reversed(backups)] == list(found), "newest first"
    assert [one.keep for one in found.values()] == [True, False, False, False]
    assert all(one.reasons for one in found.values())
    assert ids(shelf) == before and other.id not in found


def test_without_rules_the_settings_are_meant(shelf: Shelf) -> None:
    old, new = shelf.put(), shelf.put(58 * DAY)
    assert {one: decision.keep for one, decision in plan(shelf, None).items()} == {old.id: True, new.id: True}
    shelf.settings = shelf.settings.model_copy(update={"prune_after": "complete"})
    assert {one: decision.keep for one, decision in plan(shelf, None).items()} == {old.id: False, new.id: True}


def test_rules_are_read_as_they_were_typed() -> None:
    assert policy_of({"daily": "7", "max_age": 30}) == Policy(daily=7, max_age=30)
    for rules in ({"daily": "many"}, {"dayly": 7}, {"max_age": 0}, {"within": "soon"}):
        with pytest.raises(UsageError) as caught:
            policy_of(rules)
        assert next(iter(rules)) in caught.value.what


def test_what_cannot_be_read_is_kept_for_a_person_to_look_at(shelf: Shelf) -> None:
    """A torn manifest, or one that a newer program wrote beside us: nothing is known of it, so nothing is decided."""
    from scriptorium.manifest import sealed

    newer, torn, new = shelf.put(DAY), shelf.put(2 * DAY), shelf.put(9 * DAY)
    shelf.path(newer, ".json").write_bytes(sealed({"version": 99}))
    shelf.path(torn, ".json").write_bytes(b"{")
    decisions = plan_cleanup(shelf.settings, "lib", LAST, now=NOW)
    assert [one.keep for one in decisions] == [True] * 3
    assert sum("cannot be read" in one.reasons[0] for one in decisions) == 2
    forged = [dataclasses.replace(one, keep=False) for one in decisions]
    assert carry_out(shelf.settings, "lib", forged) == ()
    assert shelf.path(newer).exists() and shelf.path(torn).exists() and shelf.path(new).exists()
    (broken,) = (one for one in Catalog(shelf.settings).backups() if one.name == shelf.path(torn).name)
    remove_by_hand(shelf.settings, broken)
    assert not shelf.path(torn).exists() and not shelf.path(torn, ".json").exists()


# --- carried out ------------------------------------------------------------------------------------------------------


def test_what_a_plan_names_is_removed_from_every_store_with_all_that_belongs_to_it(
    new_shelf: Callable[..., Shelf],
) -> None:
    shelf = new_shelf("local", "second")
    removed = [shelf.put(day * DAY, "local", "second", annotations=Annotations()) for day in range(3)]
    kept = shelf.put(9 * DAY, "local", "second", annotations=Annotations())
    assert prune(shelf) == tuple(one.id for one in removed), "oldest first"
    assert ids(shelf) == {kept.id}
    for store in ("local", "second"):
        names = {path.name for path in (shelf.folder / store / "lib").iterdir()}
        assert names == {shelf.path(kept).name + ending for ending in ("", ".json", ".marks.json")}


@pytest.mark.parametrize("policy", [LAST, Policy(max_age=1), Policy(max_count=1), Policy(max_age=1, max_count=1)])
def test_the_newest_good_backup_is_never_removed(shelf: Shelf, policy: Policy) -> None:
    unsound = Annotations(verification=Verification(NOW, False, ("altered member: a",)))
    good = shelf.put(DAY)
    shelf.put(2 * DAY, annotations=unsound)
    gone = shelf.put(3 * DAY)
    shelf.path(gone).unlink()
    assert good.id not in prune(shelf, policy) and good.id in ids(shelf)


def test_a_good_backup_that_became_the_last_one_since_the_plan_stays(shelf: Shelf) -> None:
    old, new = shelf.put(DAY), shelf.put(2 * DAY)
    decisions = plan_cleanup(shelf.settings, "lib", LAST, now=NOW)
    assert not plan(shelf)[old.id].keep
    shelf.path(new).write_bytes(b"cut")
    assert carry_out(shelf.settings, "lib", decisions) == () and old.id in ids(shelf)


def test_the_last_good_full_backup_stays_though_a_newer_one_of_another_type_is_good(shelf: Shelf) -> None:
    full, config = shelf.put(DAY), shelf.put(2 * DAY, type=BackupType.CONFIG)
    forged = [dataclasses.replace(one, keep=False) for one in plan_cleanup(shelf.settings, "lib", LAST, now=NOW)]
    assert carry_out(shelf.settings, "lib", forged) == () and ids(shelf) == {full.id, config.id}


def test_a_pinned_backup_is_never_removed_nor_one_that_was_pinned_after_the_plan(shelf: Shelf) -> None:
    pinned, late, removed = shelf.put(DAY, annotations=Annotations(pinned=True)), shelf.put(2 * DAY), shelf.put(3 * DAY)
    shelf.put(9 * DAY)
    decisions = plan_cleanup(shelf.settings, "lib", LAST, now=NOW)
    assert "pinned" in plan(shelf)[pinned.id].reasons
    pin_copies(shelf.settings, late, pinned=True)
    assert carry_out(shelf.settings, "lib", decisions) == (removed.id,)
    assert {pinned.id, late.id} <= ids(shelf)


def test_a_pin_that_comes_while_others_are_removed_counts(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listing is out of date by then."""
    first, second = shelf.put(DAY), shelf.put(2 * DAY)
    shelf.put(9 * DAY)
    from scriptorium.stores import LocalStore

    real = LocalStore.remove

    def removing(store: LocalStore, key: str) -> None:
        store.annotate(second.copies[0].key, Annotations(pinned=True))
        real(store, key)

    monkeypatch.setattr(LocalStore, "remove", removing)
    assert prune(shelf) == (first.id,) and second.id in ids(shelf)


def test_a_backup_that_something_reads_is_never_removed(shelf: Shelf) -> None:
    read, late, removed = shelf.put(DAY), shelf.put(2 * DAY), shelf.put(3 * DAY)
    shelf.put(9 * DAY)
    with workspace.reading(shelf.settings, read.id):
        assert "being read" in plan(shelf)[read.id].reasons
        decisions = plan_cleanup(shelf.settings, "lib", LAST, now=NOW)
        with workspace.reading(shelf.settings, late.id):
            assert carry_out(shelf.settings, "lib", decisions) == (removed.id,)
    assert prune(shelf) == (read.id, late.id)


def test_what_another_process_reads_is_not_removed_until_it_dies(shelf: Shelf) -> None:
    read = shelf.put(DAY)
    shelf.put(9 * DAY)
    ready, signal_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        with workspace.reading(shelf.settings, read.id):
            os.write(signal_ready, b"x")
            signal.pause()
    assert os.read(ready, 1) == b"x"
    try:
        assert prune(shelf) == ()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert prune(shelf) == (read.id,)


def test_a_safety_backup_stays_for_a_while(shelf: Shelf) -> None:
    safety = shelf.put(57 * DAY, tier=Tier.BEFORE_RESTORE)
    shelf.put(58 * DAY)
    assert plan(shelf)[safety.id].keep and prune(shelf) == ()


def test_a_library_that_is_held_is_not_pruned(shelf: Shelf) -> None:
    shelf.put(DAY), shelf.put(9 * DAY)
    decisions = plan_cleanup(shelf.settings, "lib", LAST, now=NOW)
    with workspace.lock(shelf.settings, "lib", "full backup"), pytest.raises(LibraryBusy, match="full backup"):
        carry_out(shelf.settings, "lib", decisions)
    assert len(ids(shelf)) == 2


def test_a_cleanup_that_breaks_off_has_removed_the_oldest_and_broken_none(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = [shelf.put(day * DAY) for day in range(4)]
    from scriptorium.stores.objects.local import LocalObjects

    real, count = LocalObjects.delete, [0]

    def breaking(self: LocalObjects, key: str) -> None:
        count[0] += 1
        if count[0] == 5:  # the second backup's archive: its manifest is gone already
            raise StoreUnavailable("the store does not answer", on=key)
        real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalObjects, "delete", breaking)
        with pytest.raises(StoreUnavailable):
            prune(shelf)
    found = Catalog(shelf.settings).backups()
    assert [one.id for one in found] == [backups[3].id, backups[2].id]
    assert all(one.status is Status.COMPLETE for one in found), "what is half removed is not listed"
    assert prune(shelf) == (backups[2].id,)


def test_what_is_gone_already_is_no_error(shelf: Shelf) -> None:
    backups = [shelf.put(day * DAY) for day in range(3)]
    decisions = plan_cleanup(shelf.settings, "lib", LAST, now=NOW)
    remove_by_hand(shelf.settings, backups[0])
    assert carry_out(shelf.settings, "lib", decisions) == (backups[1].id,)


def test_a_store_that_does_not_answer_does_not_affect_the_others(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    old, new = shelf.put(DAY), shelf.put(2 * DAY)
    (shelf.folder / "second").write_text("not a folder")
    assert prune(shelf) == (old.id,) and ids(shelf) == {new.id}
    assert sweep_stores(shelf.settings) == ()


# --- rubbish ----------------------------------------------------------------------------------------------------------


def rubbish(shelf: Shelf, hours: float) -> list[Path]:
    """What a crash left ``hours`` ago: an archive without its manifest, half a write."""
    backup: Backup = shelf.put(50 * DAY)
    shelf.path(backup, ".json").unlink()
    half = shelf.path(backup).with_name(".full_20260101_000000.tar.gz.0a1b2c3d.partial")
    half.write_bytes(b"half")
    then = datetime.now().timestamp() - hours * 3600
    for path in (shelf.path(backup), half):
        os.utime(path, (then, then))
    return [shelf.path(backup), half]


def test_rubbish_is_swept_after_its_grace_and_shown_before(shelf: Shelf) -> None:
    kept = shelf.put()
    young, old = rubbish(shelf, 23), rubbish(shelf, 25)
    old[1] = old[1].rename(old[1].with_name(".full_20260101_000001.tar.gz.0a1b2c3d.partial"))
    young[1].touch()
    expected = {f"local:lib/{path.name}" for path in old if path.exists()}
    assert set(sweep_stores(shelf.settings, dry_run=True)) == expected and all(path.exists() for path in old)
    assert set(sweep_stores(shelf.settings)) == expected
    assert not any(path.exists() for path in old) and all(path.exists() for path in young)
    assert ids(shelf) == {kept.id} and sweep_stores(shelf.settings) == ()


# --- choosing and verifying copies ------------------------------------------------------------------------------------


def test_shares_of_all_copies_are_disjoint_and_complete(shelf: Shelf) -> None:
    everything = {shelf.put(day * DAY, id=f"{day * 37:012x}").id for day in range(20)}
    shares = [
        {one.backup.id for one in choose_copies(shelf.settings, VerifyRequest(share=f"{n}/3"))} for n in (1, 2, 3)
    ]
    assert set().union(*shares) == everything and sum(map(len, shares)) == len(everything)
    assert {one.backup.id for one in choose_copies(shelf.settings, VerifyRequest())} == everything
    for wrong in ("0/3", "4/3", "1/0", "1", "a/b", "-1/3", "1/3/5", ""):
        if wrong:
            with pytest.raises(UsageError):
                choose_copies(shelf.settings, VerifyRequest(share=wrong))


def test_copies_are_chosen_by_reference_and_store(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    both, here = shelf.put(DAY, "local", "second"), shelf.put(2 * DAY)
    assert [one.copy.store for one in choose_copies(shelf.settings, VerifyRequest(ids=[both.id]))] == [
        "local",
        "second",
    ]
    assert [one.copy.store for one in choose_copies(shelf.settings, VerifyRequest(ids=[both.id], store="second"))] == [
        "second"
    ]
    assert [one.backup.id for one in choose_copies(shelf.settings, VerifyRequest(store="second"))] == [both.id]
    with pytest.raises(NotFound, match="no copy to verify"):
        choose_copies(shelf.settings, VerifyRequest(ids=[here.id], store="second"))
    with pytest.raises(NotFound, match="no such backup"):
        choose_copies(shelf.settings, VerifyRequest(ids=["ffff"]))


def test_what_a_verification_found_is_remembered_and_the_pin_is_kept(shelf: Shelf) -> None:
    """The archive here is no real archive: verification must find that."""
    backup = shelf.put(annotations=Annotations(pinned=True))
    found = verify_stored(shelf.settings, backup.id, backup.copies[0])
    assert not found.sound and found.damage
    annotations = shelf.settings.store("local").annotations(backup.copies[0].key)
    assert annotations == Annotations(True, found)
    (listed,) = Catalog(shelf.settings).backups()
    assert listed.status is Status.DAMAGED and listed.copies[0].damage == found.damage
    assert workspace.being_read(shelf.settings) == frozenset()


def test_a_verification_counts_even_where_it_cannot_be_written_down(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = shelf.put()
    from scriptorium.stores.objects.local import LocalObjects

    def refusing(self: LocalObjects, key: str, data: bytes) -> None:
        raise StoreUnavailable("the store does not answer: Read-only file system", on=key)

    monkeypatch.setattr(LocalObjects, "put_bytes", refusing)
    assert not verify_stored(shelf.settings, backup.id, backup.copies[0]).sound


def test_a_missing_archive_or_manifest_is_a_finding(shelf: Shelf) -> None:
    no_archive, no_manifest = shelf.put(), shelf.put(DAY)
    shelf.path(no_archive).unlink()
    shelf.path(no_manifest, ".json").unlink()
    assert "missing archive" in verify_stored(shelf.settings, no_archive.id, no_archive.copies[0]).damage[0]
    found = verify_stored(shelf.settings, no_manifest.id, no_manifest.copies[0])
    assert "missing manifest" in found.damage[0]
    assert not shelf.path(no_manifest, ".marks.json").exists()


def test_days_are_those_of_the_time_zone_and_tiers_have_rules_of_their_own(shelf: Shelf) -> None:
    first, late, later = [shelf.put(timedelta(hours=hours)) for hours in (1, 14, 16)]  # in Tokyo the last is a day on
    assert {name for name, one in plan(shelf, Policy(daily=2)).items() if one.keep} == {first.id, later.id}
    shelf.settings = shelf.settings.model_copy(update={"timezone": "Asia/Tokyo"})
    assert {name for name, one in plan(shelf, Policy(daily=2)).items() if one.keep} == {late.id, later.id}
    hourly = [shelf.put(timedelta(hours=hours), tier=Tier.HOURLY) for hours in (20, 21, 22)]
    tiers = {Tier.HOURLY: TierSettings(keep=Policy(last=1))}
    shelf.settings = shelf.settings.model_copy(update={"tiers": tiers, "keep": Policy(), "prune_after": "complete"})
    assert [plan(shelf, None)[one.id].keep for one in (late, later, *hourly)] == [True, True, False, False, True]
