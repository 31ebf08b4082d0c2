"""The catalog: lists of one store and of several; backups found by id, name or ``latest``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from catalog_listing import HOUR, Shelf, listed

from scriptorium.catalog import Catalog, Listing, begin_run, finish_run
from scriptorium.errors import DamageFound, NotFound, UsageError
from scriptorium.manifest import dumps, loads
from scriptorium.model import Annotations, Proof, Verification
from scriptorium.words import BackupType, Status, Tier

# --- what is listed ---------------------------------------------------------------------------------------------------


def test_an_empty_store_has_no_backups_and_gets_no_index(shelf: Shelf) -> None:
    assert listed(shelf) == []
    assert not Path(shelf.settings.store("local").location("x")).parent.exists()


def test_backups_are_listed_newest_first_with_everything_known_of_them(shelf: Shelf) -> None:
    old = shelf.put(HOUR, type=BackupType.DATA, tier=Tier.DAILY, description='größe\n"x"', warnings=("a", "b"))
    new = shelf.put(2 * HOUR, library="other")
    found = listed(shelf)
    assert found == [new, dataclasses.replace(old, warnings=2)]
    assert listed(shelf) == found, "from the index"
    assert listed(shelf, library="lib") == [found[1]] and listed(shelf, type=BackupType.FULL) == [found[0]]
    assert listed(shelf, library="nobody") == []


def test_a_backup_s_status_is_what_is_known_of_it(shelf: Shelf) -> None:
    when = datetime(2026, 2, 1, tzinfo=UTC)
    sound, bad = Verification(when, True), Verification(when, False, ("altered member: a",))
    proof = Proof(when, "local", True, 1.0, 1.0, 1, 1, 0, 0)
    expected = {
        shelf.put(1 * HOUR).id: (Status.COMPLETE, None, ()),
        shelf.put(2 * HOUR, annotations=Annotations(verification=sound)).id: (Status.VERIFIED, when, ()),
        shelf.put(3 * HOUR, annotations=Annotations(verification=bad)).id: (Status.DAMAGED, when, bad.damage),
        shelf.put(4 * HOUR, annotations=Annotations(verification=sound, proof=proof)).id: (Status.PROVEN, when, ()),
        shelf.put(5 * HOUR, annotations=Annotations(verification=bad, proof=proof)).id: (
            Status.DAMAGED,
            when,
            bad.damage,
        ),
    }
    for _ in range(2):  # the second time from the index
        found = {one.id: (one.status, one.copies[0].verified_at, one.copies[0].damage) for one in listed(shelf)}
        assert found == expected


def test_pins_are_seen(shelf: Shelf) -> None:
    backup = shelf.put()
    assert not listed(shelf)[0].pinned
    shelf.settings.store("local").annotate(backup.copies[0].key, Annotations(pinned=True))
    assert listed(shelf)[0].pinned
    shelf.path(backup, ".marks.json").write_bytes(b"torn")
    assert listed(shelf)[0].pinned, "the lost annotations may have contained a pin"
    shelf.path(backup, ".marks.json").unlink()
    assert not listed(shelf)[0].pinned


# --- several stores ---------------------------------------------------------------------------------------------------


def test_copies_of_one_backup_are_one_backup(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    both, here, there = shelf.put(HOUR, "local", "second"), shelf.put(2 * HOUR), shelf.put(3 * HOUR, "second")
    assert listed(shelf) == [there, here, both]
    assert [copy.store for copy in listed(shelf)[2].copies] == ["local", "second"]
    assert [one.id for one in listed(shelf, store="second")] == [there.id, both.id]
    assert [copy.store for copy in listed(shelf, store="second")[1].copies] == ["second"]
    shelf.path(both).unlink()
    found = listed(shelf)[2]
    assert found.status is Status.COMPLETE, "one sound copy is enough"
    assert [str(copy.status) for copy in found.copies] == ["damaged", "complete"]
    catalog = Catalog(shelf.settings)
    assert catalog.copy_of(found).store == "second"
    assert catalog.copy_of(found, "local").status is Status.DAMAGED
    with pytest.raises(NotFound, match="no copy in the store second"):
        catalog.copy_of(here, "second")
    with pytest.raises(NotFound, match="no such store"):
        catalog.copy_of(here, "third")
    with pytest.raises(NotFound):
        catalog.backups(store="third")


def test_a_store_that_does_not_answer_is_noted_and_the_others_are_listed(
    new_shelf: Callable[..., Shelf], caplog: pytest.LogCaptureFixture
) -> None:
    shelf = new_shelf("local", "second")
    here = shelf.put()
    (shelf.folder / "second").write_text("not a folder")
    catalog = Catalog(shelf.settings)
    listing = catalog.listing()
    assert listing.backups == [here] == catalog.backups()
    assert [problem.store for problem in listing.problems] == ["second"]
    logged = {(record.levelname, record.message.partition(",")[0]) for record in caplog.records}
    assert ("WARNING", "second could not be read") in logged
    with pytest.raises(NotFound) as caught:
        catalog.find("ffffffffffff")
    assert caught.value.hint == "these stores could not be read: second"
    (shelf.folder / "second").unlink()
    assert catalog.listing() == Listing([here])


def test_threads_may_list_at_once_and_a_reading_changes_nothing_on_the_catalog(
    new_shelf: Callable[..., Shelf],
) -> None:
    shelf = new_shelf("local", "second")
    taken = [shelf.put(number * HOUR, "local", "second") for number in range(5)]
    catalog = Catalog(shelf.settings)
    (shelf.folder / "second").rename(shelf.folder / "away")
    (shelf.folder / "second").write_text("not a folder")

    def read(number: int) -> list[Listing]:
        if number % 2:
            return [catalog.listing(store="local") for _ in range(20)]
        return [catalog.listing() for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, range(4)))
    for number, listings in enumerate(found):
        for one in listings:
            assert {backup.id for backup in one.backups} == {backup.id for backup in taken}
            assert [problem.store for problem in one.problems] == ([] if number % 2 else ["second"])
    assert dataclasses.fields(catalog) == dataclasses.fields(Catalog) and not hasattr(catalog, "__dict__")


def test_the_manifest_of_a_copy_is_read_from_its_store(shelf: Shelf) -> None:
    backup = shelf.put()
    catalog = Catalog(shelf.settings)
    assert catalog.manifest(backup.copies[0]) == loads(shelf.path(backup, ".json").read_bytes())
    shelf.path(backup, ".json").write_bytes(b"{}")
    with pytest.raises(DamageFound):
        catalog.manifest(backup.copies[0])
    shelf.path(backup, ".json").unlink()
    with pytest.raises(NotFound):
        catalog.manifest(backup.copies[0])


# --- found by what people call them -----------------------------------------------------------------------------------


def test_a_backup_is_found_by_id_prefix_name_and_file(shelf: Shelf) -> None:
    first = shelf.put(HOUR, id="aaaa11112222", name="before the move")
    second = shelf.put(2 * HOUR, id="aaaa33334444", name="aaaa1111")
    third = shelf.put(3 * HOUR, id="bbbb33334444", name="bbbb", library="other")
    find = Catalog(shelf.settings).find
    assert find("aaaa11112222") == find("before the move") == find("aaaa11112") == first
    assert find("aaaa1111") == second, "a name is meant before a prefix"
    assert find("aaaa3333") == second
    assert find("bbbb3") == find("bbbb") == find(third.copies[0].key.partition("/")[2]) == third
    assert find("latest") == third and find("latest", library="lib") == second
    for nothing in ("aaa", "AAAA1111", "cccc", "", "move", "aaaa111122223", "*"):
        with pytest.raises(NotFound):
            find(nothing)
    with pytest.raises(NotFound):
        find("before the move", library="other")


def test_what_could_be_several_is_not_guessed(shelf: Shelf) -> None:
    ids = [shelf.put(number * HOUR, id=f"aaaa{number}1112222", name="nightly").id for number in range(2)]
    for reference in ("aaaa", "nightly"):
        with pytest.raises(UsageError) as caught:
            Catalog(shelf.settings).find(reference)
        assert all(one in caught.value.hint for one in ids) and caught.value.exit_code == 2


def test_the_latest_is_the_latest_good_one(shelf: Shelf) -> None:
    catalog = Catalog(shelf.settings)
    with pytest.raises(NotFound, match="no good backup yet"):
        catalog.find("latest")
    good, bad = shelf.put(HOUR), shelf.put(2 * HOUR)
    shelf.path(bad).unlink()
    run = dataclasses.replace(shelf.put(3 * HOUR, library="other"), id="cccccccccccc", library="lib", copies=())
    begin_run(shelf.settings, run)
    assert catalog.find("latest", library="lib") == good


def test_what_a_restore_replaced_is_not_the_latest_backup(shelf: Shelf) -> None:
    only = shelf.put(HOUR, tier=Tier.BEFORE_RESTORE)
    assert Catalog(shelf.settings).find("latest") == only
    wanted = shelf.put(2 * HOUR)
    shelf.put(3 * HOUR, tier=Tier.BEFORE_RESTORE)
    assert Catalog(shelf.settings).find("latest") == wanted


def test_a_name_means_the_backup_and_not_the_run_that_failed(shelf: Shelf) -> None:
    backup = shelf.put(HOUR, name="before the move")
    failed = dataclasses.replace(backup, id="cccccccccccc", copies=(), created_at=backup.created_at + HOUR)
    finish_run(shelf.settings, failed, Status.FAILED, "no space")
    catalog = Catalog(shelf.settings)
    assert catalog.find("before the move") == backup
    assert catalog.find("cccc").error == "no space"
    with pytest.raises(NotFound, match="no copy in any store") as caught:
        catalog.copy_of(catalog.find("cccc"))
    assert "failed" in caught.value.hint


# --- many -------------------------------------------------------------------------------------------------------------


def test_a_thousand_backups_are_listed(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured, and printed; the benchmark has the limit."""
    pattern = loads(shelf.path(shelf.put(), ".json").read_bytes())
    assert pattern.archive is not None
    for number in range(999):
        name = f"full_20260102_{number:06d}.tar.gz"
        record = dataclasses.replace(
            pattern, id=f"{number:012x}", archive=dataclasses.replace(pattern.archive, name=name, bytes=4)
        )
        (shelf.folder / "local" / "lib" / name).write_bytes(b"data")
        (shelf.folder / "local" / "lib" / f"{name}.json").write_bytes(dumps(record))
    times = {}
    for what in ("without an index", "from the index", "once more"):
        began = time.perf_counter()
        assert len(listed(shelf)) == 1000
        times[what] = f"{time.perf_counter() - began:.3f} s"
    with capsys.disabled():
        print(f"\n1,000 backups: {times}")
