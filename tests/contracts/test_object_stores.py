"""One suite for every store that keeps archives as objects: those of ``STORES`` in tests/shared/store_fixtures.py.

No test below may ask for the kind of a store; test_folder_store.py has the tests of folders alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_fixtures import KEY, StoreUnderTest, names

from scriptorium.errors import DamageFound, NoSpace, NotFound, StoreUnavailable, UsageError
from scriptorium.stores.objects.base import ObjectStore, checked_key


def test_what_is_put_is_read_back(store: ObjectStore, file: Path) -> None:
    data = file.read_bytes()
    arrived: list[int] = []
    store.put(KEY, file, sha256=hashlib.sha256(data).hexdigest(), advance=arrived.append)
    assert sum(arrived) == len(data)
    store.put_bytes(f"{KEY}.json", b"{}")
    with store.open(KEY) as stream:
        assert stream.read() == data
    assert store.read_bytes(KEY) == data
    assert store.read_bytes(f"{KEY}.json") == b"{}"


def test_a_range_begins_where_it_should(store: ObjectStore, file: Path) -> None:
    data = file.read_bytes()
    store.put(KEY, file)
    for start, end in ((0, 10), (1000, 2000), (len(data) - 5, len(data)), (0, len(data))):
        with store.open_range(KEY, start, end) as stream:
            assert stream.read(end - start) == data[start:end]
    with store.open_range(KEY, len(data) + 5, len(data) + 10) as stream:
        assert stream.read() == b""
    with pytest.raises(NotFound):
        store.open_range("lib/nothing.tar.gz", 1, 2)


def test_an_object_that_was_put_does_not_change_with_its_file_elsewhere(store: ObjectStore, file: Path) -> None:
    data = file.read_bytes()
    store.put(KEY, file)
    file.unlink()
    file.write_bytes(b"something else")
    assert store.read_bytes(KEY) == data


def test_putting_needs_no_preparation_and_preparing_twice_changes_nothing(
    under_test: StoreUnderTest, file: Path
) -> None:
    under_test.store.put(KEY, file)
    under_test.store.prepare()
    under_test.store.prepare()
    assert names(under_test.store) == [KEY]


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put_bytes(KEY, b"")
    assert store.read_bytes(KEY) == b""
    assert [info.size for info in store.list()] == [0]


def test_putting_again_replaces_and_changes_the_etag(store: ObjectStore, file: Path) -> None:
    store.put_bytes(KEY, b"first")
    (first,) = store.list()
    store.put(KEY, file)
    (second,) = store.list()
    assert (first.size, second.size) == (5, 300_000)
    assert first.etag != second.etag
    assert store.read_bytes(KEY) == file.read_bytes()


def test_putting_the_same_file_again_is_a_repeat_and_leaves_nothing(store: ObjectStore, file: Path) -> None:
    """A task is retried because its answer was lost."""
    store.put(KEY, file)
    store.put(KEY, file)
    assert store.read_bytes(KEY) == file.read_bytes()
    assert names(store) == [KEY] and list(store.leftovers()) == []


@pytest.mark.parametrize("second_name", [True, False])
def test_a_file_that_changed_on_its_way_is_not_stored(store: ObjectStore, file: Path, second_name: bool) -> None:
    """Bytes that are moved are hashed. (A file that is taken over as it is, by a link, moves no byte.)"""
    if second_name:
        os.link(file, file.with_name("another store's"))
    wrong = hashlib.sha256(b"another").hexdigest()
    if second_name or not store.takes_over:
        with pytest.raises(DamageFound):
            store.put(KEY, file, sha256=wrong)
        assert names(store) == [] and list(store.leftovers()) == []
    else:
        store.put(KEY, file, sha256=wrong)
        assert store.read_bytes(KEY) == file.read_bytes()


def test_objects_are_listed_by_key_and_by_prefix(store: ObjectStore) -> None:
    keys = ["a/z.tar", "a-b/y.tar", "a.b/x.tar", "a b/w.tar", "a/z.tar.json", "top.json", "b/ä.tar", "b/z.tar"]
    for key in keys:
        store.put_bytes(key, key.encode())
    assert names(store) == sorted(keys)
    assert names(store, "a/") == ["a/z.tar", "a/z.tar.json"]
    assert names(store, "a/z.tar.") == ["a/z.tar.json"]
    assert names(store, "b/z.tar.gz") == []
    assert [info.size for info in store.list("b/")] == [len("b/z.tar"), len("b/ä.tar".encode())]


def test_times_of_objects_are_aware_and_now(store: ObjectStore) -> None:
    store.put_bytes(KEY, b"x")
    (info,) = store.list()
    assert info.modified.utcoffset() == timedelta(0)
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "name", ["größe.tar", "日本語.tar.gz", "a b'c\"d.tar", "new\nline.tar", "back\\slash.tar", "e\u0301.tar", "%2e.tar"]
)
def test_awkward_names_are_kept_as_they_are(store: ObjectStore, name: str) -> None:
    store.put_bytes(f"lib/{name}", b"content")
    assert names(store) == [f"lib/{name}"]
    assert store.read_bytes(f"lib/{name}") == b"content"
    store.delete(f"lib/{name}")
    assert names(store) == []


BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside.tar",
    "lib/../../outside.tar",
    "lib/..",
    "lib/.",
    "./lib.tar",
    "lib//x.tar",
    "lib/",
    "lib/x\0.tar",
    "lib/deeper/x.tar",
    "lib/.hidden.tar",
    ".scriptorium/x.tar",
    "lib/\udcff.tar",
    "lib/" + "x" * 300,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_what_is_no_key_is_refused_and_nothing_is_written(
    store: ObjectStore, tmp_path: Path, file: Path, key: str
) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    for attempt in (lambda: store.put_bytes(key, b"x"), lambda: store.put(key, file)):
        with pytest.raises(UsageError):
            attempt()
    assert names(store) == []
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside.tar", "lib/../../outside.tar", "lib/x\0.tar"])
def test_what_is_no_key_is_neither_read_nor_deleted(store: ObjectStore, tmp_path: Path, key: str) -> None:
    outside = tmp_path / "outside.tar"
    outside.write_text("not ours")
    for attempt in (store.open, store.read_bytes, store.delete):
        with pytest.raises(UsageError):
            attempt(key)
    assert outside.read_text() == "not ours"


@given(st.text(max_size=30))
def test_a_checked_key_never_leaves_the_store(text: str) -> None:
    try:
        steps = checked_key(text)
    except UsageError:
        return
    assert "/".join(steps) == text and 1 <= len(steps) <= 2
    assert not any(step.startswith(".") or not step for step in steps)


@pytest.mark.parametrize("key", [KEY, "nothing.tar", f"{KEY}/below.tar", "bibliotheca"])
def test_what_is_not_there_is_not_found(store: ObjectStore, key: str) -> None:
    store.put_bytes("bibliotheca/other.tar", b"x")
    key = key.replace(f"{KEY}/below.tar", "nobody/below.tar")
    for attempt in (store.open, store.read_bytes):
        with pytest.raises(NotFound):
            attempt(key)


def test_an_empty_store_lists_nothing_before_and_after_it_is_prepared(under_test: StoreUnderTest) -> None:
    assert names(under_test.store) == [] and list(under_test.store.leftovers()) == []
    under_test.store.prepare()
    assert names(under_test.store) == [] and list(under_test.store.leftovers()) == []


def test_deleting_again_changes_nothing(store: ObjectStore) -> None:
    store.put_bytes(KEY, b"x")
    store.put_bytes("bibliotheca/other.tar", b"y")
    for _ in range(2):
        store.delete(KEY)
        assert names(store) == ["bibliotheca/other.tar"]
    store.delete("nobody/nothing.tar")


def test_usage_counts_what_is_stored(store: ObjectStore) -> None:
    used, _ = store.usage()
    assert used == 0
    store.put_bytes(KEY, bytes(1000))
    store.put_bytes(f"{KEY}.json", bytes(10))
    used, free = store.usage()
    assert used == 1010
    assert free is None or free > 0


def test_a_location_names_the_object(store: ObjectStore) -> None:
    assert store.location(KEY).endswith(KEY)


@pytest.mark.parametrize("way", ["file", "bytes"])
def test_a_full_store_is_reported_and_keeps_its_objects(under_test: StoreUnderTest, tmp_path: Path, way: str) -> None:
    data = os.urandom(500_000)
    large = tmp_path / "large.tar"
    large.write_bytes(os.urandom(1_500_000))
    with under_test.fill() as store:
        store.put_bytes(KEY, data)
        with pytest.raises(NoSpace) as caught:
            if way == "file":
                store.put(KEY, large)
            else:
                store.put_bytes(KEY, large.read_bytes())
        assert caught.value.on and caught.value.exit_code == 7
        assert store.read_bytes(KEY) == data
        assert names(store) == [KEY] and list(store.leftovers()) == []
        if store.folder is not None:
            assert list((store.folder / KEY).parent.iterdir()) == [store.folder / KEY]


def test_a_store_that_does_not_answer_is_a_transient_error(under_test: StoreUnderTest, file: Path) -> None:
    store = under_test.store
    store.put_bytes(KEY, b"x")
    under_test.break_down()
    attempts: list[Callable[[], object]] = [
        store.prepare,
        lambda: store.put(KEY, file),
        lambda: store.put_bytes(KEY, b"y"),
        lambda: store.open(KEY),
        lambda: store.read_bytes(KEY),
        lambda: list(store.list()),
        lambda: list(store.leftovers()),
        lambda: store.delete(KEY),
        store.usage,
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable) as caught:
            attempt()
        assert "does not answer" in caught.value.what or "cannot be read" in caught.value.what
