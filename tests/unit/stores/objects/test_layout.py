"""Backups as objects of a store: the manifest is the commit, and other objects are left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scriptorium.errors import DamageFound, NoSpace, NotFound
from scriptorium.manifest import annotations_key, archive_name, file_list, is_archive_name, manifest_key, sealed
from scriptorium.model import Annotations, ArchiveRecord, Manifest, Verification
from scriptorium.stores.objects.base import ObjectStore
from scriptorium.stores.objects.layout import (
    commit,
    discard_unfinished,
    free_name,
    read_annotations,
    read_manifest,
    remove,
    stored,
    sweep,
    used,
    write_annotations,
)
from scriptorium.stores.objects.local import LocalObjects
from scriptorium.stores.objects.memory import MemoryObjects
from scriptorium.words import BackupType, Compression, Tier

TAKEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def manifest(name: str = "full_20260102_030405.tar.gz", size: int = 4) -> Manifest:
    return Manifest(
        id="0123456789ab",
        library="lib",
        preset=None,
        type=BackupType.FULL,
        tier=Tier.MANUAL,
        name="a backup",
        description="",
        created_at=TAKEN,
        finished_at=TAKEN,
        host="here",
        scriptorium_version="1",
        tools={},
        parts=(),
        files=file_list([]),
        archive=ArchiveRecord(name, size, "0" * 64, Compression.GZIP),
    )


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return LocalObjects(path=tmp_path / "store") if request.param == "local" else MemoryObjects()


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[], Path]:
    def make() -> Path:
        path = tmp_path / f"staged-{os.urandom(4).hex()}"
        path.write_bytes(b"data")
        return path

    return make


def keys(store: ObjectStore) -> set[str]:
    return {info.key for info in store.list()}


def with_right_hash(record: Manifest) -> Manifest:
    import dataclasses
    import hashlib

    assert record.archive is not None
    return dataclasses.replace(
        record, archive=dataclasses.replace(record.archive, sha256=hashlib.sha256(b"data").hexdigest())
    )


def test_a_backup_is_there_once_its_manifest_is(store: ObjectStore, archive: Callable[[], Path]) -> None:
    record = with_right_hash(manifest())
    key = commit(store, archive(), record)
    assert key == "lib/full_20260102_030405.tar.gz"
    (found,) = stored(store)
    assert (found.key, found.archive is not None, found.annotations) == (key, True, None)
    assert read_manifest(store, key) == record
    assert read_annotations(store, key) == Annotations()
    annotations = Annotations(pinned=True, verification=Verification(TAKEN, True))
    write_annotations(store, key, annotations)
    assert read_annotations(store, key) == annotations
    (marked,) = stored(store, "lib")
    assert marked.annotations is not None and marked.stamp != found.stamp
    assert list(stored(store, "li")) == [] and list(stored(store, "lib2")) == []
    remove(store, key)
    remove(store, key)
    assert keys(store) == set()
    with pytest.raises(NotFound):
        read_manifest(store, key)


def test_an_archive_without_its_manifest_is_not_committed(store: ObjectStore, archive: Callable[[], Path]) -> None:
    import dataclasses

    with pytest.raises(DamageFound):
        commit(store, archive(), dataclasses.replace(manifest(), archive=None))
    assert keys(store) == set()


def test_an_archive_whose_manifest_finds_no_space_does_not_stay(archive: Callable[[], Path]) -> None:
    store = MemoryObjects(capacity=10)
    with pytest.raises(NoSpace):
        commit(store, archive(), with_right_hash(manifest()))
    assert keys(store) == set()


def test_damaged_annotations_may_have_been_a_pin(store: ObjectStore) -> None:
    assert read_annotations(store, "lib/x.tar") == Annotations()
    for unreadable in (b"torn", sealed({"version": 99})):  # the second one a newer program's
        store.put_bytes(annotations_key("lib/x.tar"), unreadable)
        assert read_annotations(store, "lib/x.tar") == Annotations(pinned=True)


@pytest.mark.parametrize("type", list(BackupType))
@pytest.mark.parametrize("kind", ["kuzu", "postgres", None])
@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("tie", [0, 2, 17])
def test_every_name_that_we_give_is_known_as_ours(
    type: BackupType, kind: str | None, compression: Compression, tie: int
) -> None:
    name = archive_name(type, TAKEN, compression, kind, tie)
    assert is_archive_name(name) and is_archive_name(f"{name}.age")
    assert not is_archive_name(manifest_key(name)) and not is_archive_name(f"my-{name}")


FOREIGN = {
    "photos/2024.tar.gz": b"somebody's photographs",
    "photos/2024.tar.gz.sha256": b"...",
    "lib/mine.tar.gz": b"put beside ours by hand",
    "lib/settings.json": b"{}",
    "lib/full_20260102_030405.sql": b"-- another program's",
    "lib/full_2026.tar": b"nearly",
    "full_20260102_030405.tar.gz": b"at the top: a store of another shape",
    "app/package.json": b"{}",
    "app/sources.tar.gz": b"somebody's",
    "app/sources.tar.gz.json": b'{"checksum": "of another program"}',
}


def test_what_others_keep_in_the_store_is_no_backup_and_is_never_swept(store: ObjectStore) -> None:
    for key, data in FOREIGN.items():
        store.put_bytes(key, data)
    assert list(stored(store)) == []
    assert sweep(store, datetime.now(UTC) + timedelta(days=400)) == ()
    assert discard_unfinished(store, "lib", TAKEN) == ()
    assert keys(store) == set(FOREIGN) and used(store) == 0


def test_a_renamed_archive_with_its_manifest_is_still_a_backup(store: ObjectStore, archive: Callable[[], Path]) -> None:
    commit(store, archive(), with_right_hash(manifest(name="before the move.tar.gz")))
    assert [found.key for found in stored(store)] == ["lib/before the move.tar.gz"]
    assert used(store) == sum(info.size for info in store.list())


def test_sweep_waits_for_its_grace_and_takes_only_what_nothing_refers_to(
    store: ObjectStore, archive: Callable[[], Path]
) -> None:
    kept = commit(store, archive(), with_right_hash(manifest()))
    write_annotations(store, kept, Annotations(pinned=True))
    store.put(orphan := "lib/data_20260102_030405-2.tar.zst", archive())
    store.put_bytes(lost_annotations := annotations_key("lib/kuzu_20250102_030405.tar.gz"), b"{}")
    now = datetime.now(UTC)
    assert sweep(store, now + timedelta(hours=23)) == ()
    swept = {info.key for info in sweep(store, now + timedelta(hours=25), dry_run=True)}
    assert swept == {orphan, lost_annotations} and keys(store) >= swept
    assert {info.key for info in sweep(store, now + timedelta(hours=25))} == swept
    assert keys(store) == {kept, manifest_key(kept), annotations_key(kept)}
    assert sweep(store, now + timedelta(days=400)) == ()


def test_an_archive_that_was_put_there_by_hand_is_not_swept(tmp_path: Path, archive: Callable[[], Path]) -> None:
    store = LocalObjects(path=tmp_path / "store")
    store.put(ours := "lib/full_20260102_030405.tar.gz", archive())
    by_hand = tmp_path / "store" / "lib" / "full_20260102_030406.tar.gz"
    by_hand.write_bytes(b"copied from another disk")
    assert [info.key for info in sweep(store, datetime.now(UTC) + timedelta(hours=25))] == [ours]
    assert by_hand.exists()


def test_sweep_discards_unfinished_writes(tmp_path: Path, archive: Callable[[], Path]) -> None:
    store = LocalObjects(path=tmp_path / "store")
    commit(store, archive(), with_right_hash(manifest()))
    partial = store.path / "lib" / ".full_20260102_030405.tar.gz.00112233.partial"
    partial.write_bytes(b"half")
    now = datetime.now(UTC)
    assert sweep(store, now) == () and partial.exists()
    assert [info.key for info in sweep(store, now + timedelta(hours=25))] == [f"lib/{partial.name}"]
    assert not partial.exists() and len(list(stored(store))) == 1


def test_what_one_dead_run_left_goes_at_once_and_nothing_else(tmp_path: Path, archive: Callable[[], Path]) -> None:
    store = LocalObjects(path=tmp_path / "store")
    folder = store.path / "lib"
    kept = commit(store, archive(), with_right_hash(manifest("full_20260102_030405-2.tar.gz")))
    store.put("lib/full_20260102_030405.tar.gz", archive())
    store.put("lib/full_20260102_030406.tar.gz", archive())
    store.put("other/full_20260102_030405.tar.gz", archive())
    (folder / ".full_20260102_030405.tar.gz.json.00112233.partial").write_bytes(b"half")
    (folder / ".full_20260102_030406.tar.gz.00112233.partial").write_bytes(b"another run's")
    gone = {info.key for info in discard_unfinished(store, "lib", TAKEN)}
    assert gone == {
        "lib/full_20260102_030405.tar.gz",
        "lib/.full_20260102_030405.tar.gz.json.00112233.partial",
    }
    assert keys(store) == {
        kept,
        manifest_key(kept),
        "lib/full_20260102_030406.tar.gz",
        "other/full_20260102_030405.tar.gz",
    }
    assert len(list(store.leftovers())) == 1


def test_a_name_is_free_until_archive_or_manifest_has_it(store: ObjectStore) -> None:
    name = "full_20260102_030405.tar.gz"
    assert free_name(store, "lib", name)
    store.put_bytes(manifest_key(f"lib/{name}"), b"{}")
    assert not free_name(store, "lib", name) and free_name(store, "other", name)
    store.put_bytes("lib/data_20260102_030405.tar", b"x")
    assert not free_name(store, "lib", "data_20260102_030405.tar")
    assert free_name(store, "lib", "data_20260102_030405.tar.gz")
