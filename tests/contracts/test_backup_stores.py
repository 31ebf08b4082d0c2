"""One suite for every kind of store of backups: archives in a folder, archives in memory, and trees of members.

No test below may ask for the kind of a store: it asks for the store's features.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from backup_store_rigs import RIGS, Rig, kinds, locking
from prepared_backup import LABEL, LATER, TAKEN, folder_of_everything, prepared

from scriptorium.errors import NotFound, Protected, StoreUnavailable
from scriptorium.members import write_members
from scriptorium.model import Annotations, Verification
from scriptorium.operations.copies import Prepared, check, put
from scriptorium.stores import LocalStore, Share
from scriptorium.stores.care import lock_of, whole_manifest
from scriptorium.stores.passing import passed_on
from scriptorium.words import Compression


@pytest.fixture(params=kinds())
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return RIGS[request.param](tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_everything(tmp_path / "data")


def stored(rig: Rig, data: Path, **how: Any) -> str:
    one = prepared(data, rig.store, **how)
    return put(rig.store, Compression.GZIP, one, check(one)).key


def test_what_is_put_is_listed_with_its_manifest_and_is_restored_as_it_was(
    rig: Rig, data: Path, tmp_path: Path
) -> None:
    key = stored(rig, data)
    (found,) = rig.store.list()
    assert (found.key, found.library) == (key, "lib") and found.label.startswith(LABEL) and found.bytes > 0
    assert found.contents and found.stamp and abs(found.modified - datetime.now(UTC)) < timedelta(minutes=1)
    manifest = rig.store.manifest(key)
    assert manifest.name == "a backup" and rig.store.visible_damage(found, manifest) == ()
    back = tmp_path / "back"
    with rig.store.members(key) as members:
        written = write_members(members, lambda path: back / path, roots=[back], expected=manifest.files)
    assert written.files == 5
    assert (back / "data" / "noise").read_bytes() == (data / "noise").read_bytes()
    assert (back / "data" / "sub" / "again").samefile(back / "data" / "noise")
    assert os.readlink(back / "data" / "link") == "noise"  # noqa: PTH115
    assert (back / "data" / os.fsdecode(b"\xff odd\n")).read_text() == "odd"


def test_members_come_in_the_order_of_the_manifest(rig: Rig, data: Path) -> None:
    key = stored(rig, data)
    with rig.store.members(key) as members:
        paths = [member.entry.path for member in members]
    assert paths == [entry.path for entry in rig.store.manifest(key).files.entries or ()]


def test_a_reader_may_stop_at_any_member(rig: Rig, data: Path) -> None:
    key = stored(rig, data)
    with rig.store.members(key) as members:
        assert next(members).entry.path == "data"
    assert rig.store.verify(key).sound


def test_what_is_not_wanted_comes_only_from_stores_that_read_everything(rig: Rig, data: Path, tmp_path: Path) -> None:
    key = stored(rig, data)
    back, files = tmp_path / "back", rig.store.manifest(key).files

    def receive(path: str) -> Path | None:
        return back / path if path.endswith("noise") else None

    partial = rig.store.features.partial_read
    with rig.store.members(key, lambda path: receive(path) is not None) as members:
        assert write_members(members, receive, roots=[back], expected=files, complete=not partial).files == 1
    with rig.store.members(key, lambda path: path == "data/noise") as members:
        assert (len(list(members)) == 1) == partial


def test_a_list_that_the_manifest_does_not_hold_comes_last(
    rig: Rig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptorium.members.ledger.INLINE", 3)
    key = stored(rig, data)
    files = rig.store.manifest(key).files
    assert files.entries is None and files.member
    with rig.store.members(key) as members:
        assert [member.entry.path for member in members][-1] == files.member
    back = tmp_path / "back"
    with rig.store.members(key) as members:
        write_members(members, lambda path: back / path, roots=[back], expected=files)
    assert rig.store.verify(key).sound


def test_a_put_that_is_repeated_replaces(rig: Rig, data: Path) -> None:
    one = prepared(data, rig.store)
    (package,) = one.packages.values()
    assert rig.store.put(package).key == rig.store.put(package).key
    assert len(list(rig.store.list())) == 1


def test_a_label_is_free_until_something_has_it(rig: Rig, data: Path) -> None:
    assert rig.store.is_free("lib", LABEL)
    rig.cut_short(prepared(data, rig.store))
    assert not rig.store.is_free("lib", LABEL)
    assert rig.store.is_free("other", LABEL) and rig.store.is_free("lib", f"{LABEL}-2")


def test_libraries_are_listed_apart(rig: Rig, data: Path) -> None:
    stored(rig, data)
    assert len(list(rig.store.list("lib"))) == 1
    assert list(rig.store.list("li")) == [] and list(rig.store.list("lib2")) == []


def test_annotations_are_kept_and_seen_in_the_stamp(rig: Rig, data: Path) -> None:
    key = stored(rig, data)
    known = rig.store.annotations(key)
    assert known.verification is not None and known.verification.sound and not known.pinned
    (before,) = rig.store.list()
    rig.store.annotate(key, replace(known, pinned=True))
    (after,) = rig.store.list()
    assert rig.store.annotations(key).pinned and before.stamp != after.stamp
    assert rig.store.annotations("lib/nothing") == Annotations()
    with pytest.raises(NotFound):
        rig.store.annotate("lib/nothing", Annotations(pinned=True))
    assert len(list(rig.store.list())) == 1


def test_what_is_not_there_is_not_found(rig: Rig, data: Path) -> None:
    stored(rig, data)
    with pytest.raises(NotFound):
        rig.store.manifest("lib/nothing")
    with pytest.raises(NotFound), rig.store.members("lib/nothing") as members:
        list(members)


def test_what_is_removed_is_gone(rig: Rig, data: Path) -> None:
    key = stored(rig, data)
    kept = stored(rig, data, label=f"{LABEL}-2")
    for _ in range(2):
        rig.store.remove(key)
        assert [found.key for found in rig.store.list()] == [kept]
    with pytest.raises(NotFound):
        rig.store.manifest(key)
    assert rig.store.is_free("lib", LABEL) and rig.store.verify(kept).sound


@pytest.mark.parametrize("name", [*kinds(), "archives in a bucket that locks"])
def test_an_immutable_backup_stays_and_the_error_names_the_end_of_the_lock(
    name: str, data: Path, tmp_path: Path
) -> None:
    rig = (RIGS | {"archives in a bucket that locks": locking})[name](tmp_path)
    key = stored(rig, data)
    lock = lock_of(rig.store, key)
    assert (lock is not None) == rig.store.features.immutable
    if lock is None:
        rig.store.remove(key)
        assert list(rig.store.list()) == []
        return
    assert lock.until is not None and lock.until > datetime.now(UTC)
    with pytest.raises(Protected):
        rig.store.remove(key)
    rig.store.annotate(key, replace(rig.store.annotations(key), pinned=True))  # its annotations still change
    assert [found.key for found in rig.store.list()] == [key] and rig.store.verify(key).sound
    assert rig.store.sweep(datetime.now(UTC) + LATER) == () and rig.store.annotations(key).pinned


def test_damage_is_found_wherever_a_share_reads_it(rig: Rig, data: Path) -> None:
    key = stored(rig, data)
    assert rig.store.verify(key).sound
    rig.damage(key)
    found = rig.store.verify(key)
    assert not found.sound and found.damage
    shares = [rig.store.verify(key, share=Share(number, 3)).sound for number in (1, 2, 3)]
    assert shares.count(False) == (1 if rig.store.features.shares else 3)


def test_a_put_that_was_cut_short_is_no_backup_and_is_swept_after_its_grace(rig: Rig, data: Path) -> None:
    kept = stored(rig, data, label=f"{LABEL}-2")
    rig.cut_short(prepared(data, rig.store))
    assert [found.key for found in rig.store.list()] == [kept]
    now = datetime.now(UTC)
    assert rig.store.sweep(now) == ()
    swept = rig.store.sweep(now + LATER, dry_run=True)
    assert len(swept) == 1 and rig.store.sweep(now + LATER) == swept and rig.store.sweep(now + LATER) == ()
    assert rig.store.is_free("lib", LABEL) and rig.store.verify(kept).sound


def test_what_one_dead_run_left_goes_at_once(rig: Rig, data: Path) -> None:
    rig.cut_short(prepared(data, rig.store))
    rig.cut_short(prepared(data, rig.store, label="full_20260102_030406", created=TAKEN + timedelta(seconds=1)))
    assert rig.store.discard_unfinished("other", TAKEN) == ()
    assert len(rig.store.discard_unfinished("lib", TAKEN)) == 1
    assert rig.store.is_free("lib", LABEL) and not rig.store.is_free("lib", "full_20260102_030406")


def test_a_copy_goes_out_of_this_store_and_into_it_member_by_member(rig: Rig, data: Path, tmp_path: Path) -> None:
    (data.parent / "work").mkdir()
    other = LocalStore(path=tmp_path / "other")

    def copied(source: Any, key: str, target: Any, label: str) -> str:
        folder = data.parent / "work" / label
        folder.mkdir()
        packaging, manifest = target.packaging(Compression.ZSTD), whole_manifest(source, key)
        with source.members(key) as members:
            package = passed_on(members, manifest, packaging, folder, label, on=key)
        return str(put(target, Compression.ZSTD, one := Prepared(label, {packaging: package}), check(one)).key)

    key = stored(rig, data)
    there = copied(rig.store, key, other, LABEL)
    back = copied(other, there, rig.store, f"{LABEL}-2")
    original = rig.store.manifest(key)
    for store, name in ((other, there), (rig.store, back)):
        assert store.verify(name).sound
        found = store.manifest(name)
        assert (found.id, found.parts, found.files.sha256) == (original.id, original.parts, original.files.sha256)


def test_usage_and_location(rig: Rig, data: Path) -> None:
    assert rig.store.usage()[0] == 0
    key = stored(rig, data)
    used, free = rig.store.usage()
    assert used > 40_000 and (free is None or free > 0)
    assert key in rig.store.location(key)


def test_a_store_that_does_not_answer_is_reported(rig: Rig, data: Path) -> None:
    key = stored(rig, data)
    one = prepared(data, rig.store)
    (package,) = one.packages.values()
    rig.break_down()
    attempts: list[Callable[[], object]] = [
        lambda: rig.store.is_free("lib", LABEL),
        lambda: rig.store.put(package),
        lambda: list(rig.store.list()),
        lambda: rig.store.manifest(key),
        lambda: rig.store.annotations(key),
        lambda: rig.store.annotate(key, Annotations(verification=Verification(TAKEN, True))),
        lambda: rig.store.verify(key),
        lambda: rig.store.remove(key),
        lambda: rig.store.sweep(datetime.now(UTC)),
        rig.store.usage,
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable):
            attempt()


def test_a_source_is_read_once_for_stores_of_every_kind(data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    stores = [RIGS[name](tmp_path / str(number)).store for number, name in enumerate([*RIGS, "archives in a folder"])]
    read: list[int] = []
    real = os.readv

    def counting(descriptor: int, buffers: list[memoryview]) -> int:
        count = real(descriptor, buffers)
        read.append(count)
        return count

    monkeypatch.setattr(os, "readv", counting)
    one = prepared(data, *stores)
    assert sum(read) == 50_003 and len(one.packages) == 4
    checked = check(one)
    for store in stores:
        key = put(store, Compression.GZIP, one, checked).key
        assert store.verify(key).sound and store.manifest(key).id == one.manifest.id
