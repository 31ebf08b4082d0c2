"""One suite for every store that keeps archives as objects.

The next store's row goes into ``ROOMS``: a function that makes an empty store in a folder, with what only it knows: how
it is made full and how it stops answering. No test below may ask for the kind of a store; what holds for one kind alone
stands at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptorium.errors import DamageFound, NoSpace, NotFound, StoreUnavailable, UsageError
from scriptorium.stores import LocalStore, Store
from scriptorium.stores.base import checked_key
from scriptorium.stores.memory import MemoryStore

KEY = "bibliotheca/full_20260102_030405.tar.gz"


@dataclass(frozen=True)
class Room:
    """A store under test. ``fill`` leaves it room for less than 1 MB, ``break_down`` makes it answer no more."""

    store: Store
    fill: Callable[[], contextlib.AbstractContextManager[Store]]
    break_down: Callable[[], None]


def local(folder: Path) -> Room:
    store = LocalStore(name="here", path=folder / "store")

    @contextlib.contextmanager
    def full() -> Iterator[Store]:
        with small_disk(folder / "disk") as disk:
            yield LocalStore(name="small", path=disk / "store")

    def break_down() -> None:  # the folder has become a file: what root cannot read either
        shutil.rmtree(store.path, ignore_errors=True)
        store.path.write_text("not a folder")

    return Room(store, full, break_down)


def memory(folder: Path) -> Room:
    store = MemoryStore(name="here")
    return Room(store, lambda: contextlib.nullcontext(MemoryStore(name="small", capacity=600_000)), store.break_down)


ROOMS = {"local": local, "memory": memory}


@contextlib.contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A real filesystem of 1 MB."""
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(at)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small filesystem can only be mounted by root, where mounting is allowed")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


@pytest.fixture(params=ROOMS)
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    return ROOMS[request.param](tmp_path)


@pytest.fixture
def store(room: Room) -> Store:
    room.store.prepare()
    return room.store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "staged.tar.gz"
    path.write_bytes(os.urandom(300_000))
    return path


def names(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def test_what_is_put_is_read_back(store: Store, file: Path) -> None:
    data = file.read_bytes()
    store.put(KEY, file, sha256=hashlib.sha256(data).hexdigest())
    store.put_bytes(f"{KEY}.json", b"{}")
    with store.open(KEY) as stream:
        assert stream.read() == data
    assert store.read_bytes(KEY) == data
    assert store.read_bytes(f"{KEY}.json") == b"{}"


def test_an_object_that_was_put_does_not_change_with_its_file_elsewhere(store: Store, file: Path) -> None:
    data = file.read_bytes()
    store.put(KEY, file)
    file.unlink()
    file.write_bytes(b"something else")
    assert store.read_bytes(KEY) == data


def test_putting_needs_no_preparation_and_preparing_twice_changes_nothing(room: Room, file: Path) -> None:
    room.store.put(KEY, file)
    room.store.prepare()
    room.store.prepare()
    assert names(room.store) == [KEY]


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put_bytes(KEY, b"")
    assert store.read_bytes(KEY) == b""
    assert [info.size for info in store.list()] == [0]


def test_putting_again_replaces_and_changes_the_etag(store: Store, file: Path) -> None:
    store.put_bytes(KEY, b"first")
    (first,) = store.list()
    store.put(KEY, file)
    (second,) = store.list()
    assert (first.size, second.size) == (5, 300_000)
    assert first.etag != second.etag
    assert store.read_bytes(KEY) == file.read_bytes()


def test_putting_the_same_file_again_is_a_repeat_and_leaves_nothing(store: Store, file: Path) -> None:
    """A task that is retried after its answer was lost."""
    store.put(KEY, file)
    store.put(KEY, file)
    assert store.read_bytes(KEY) == file.read_bytes()
    assert names(store) == [KEY] and list(store.leftovers()) == []


@pytest.mark.parametrize("second_name", [True, False])
def test_a_file_that_changed_on_its_way_is_not_stored(store: Store, file: Path, second_name: bool) -> None:
    """Bytes that are moved are hashed. (A file that is taken over as it is, by a link, moves no byte.)"""
    if second_name:
        os.link(file, file.with_name("another store's"))
    wrong = hashlib.sha256(b"another").hexdigest()
    if second_name or store.local_path(KEY) is None:
        with pytest.raises(DamageFound):
            store.put(KEY, file, sha256=wrong)
        assert names(store) == [] and list(store.leftovers()) == []
    else:
        store.put(KEY, file, sha256=wrong)
        assert store.read_bytes(KEY) == file.read_bytes()


def test_objects_are_listed_by_key_and_by_prefix(store: Store) -> None:
    keys = ["a/z.tar", "a-b/y.tar", "a.b/x.tar", "a b/w.tar", "a/z.tar.json", "top.json", "b/ä.tar", "b/z.tar"]
    for key in keys:
        store.put_bytes(key, key.encode())
    assert names(store) == sorted(keys)
    assert names(store, "a/") == ["a/z.tar", "a/z.tar.json"]
    assert names(store, "a/z.tar.") == ["a/z.tar.json"]
    assert names(store, "b/z.tar.gz") == []
    assert [info.size for info in store.list("b/")] == [len("b/z.tar"), len("b/ä.tar".encode())]


def test_times_of_objects_are_aware_and_now(store: Store) -> None:
    store.put_bytes(KEY, b"x")
    (info,) = store.list()
    assert info.modified.utcoffset() == timedelta(0)
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "name", ["größe.tar", "日本語.tar.gz", "a b'c\"d.tar", "new\nline.tar", "back\\slash.tar", "e\u0301.tar", "%2e.tar"]
)
def test_awkward_names_are_kept_as_they_are(store: Store, name: str) -> None:
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
def test_what_is_no_key_is_refused_and_nothing_is_written(store: Store, tmp_path: Path, file: Path, key: str) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    for attempt in (lambda: store.put_bytes(key, b"x"), lambda: store.put(key, file)):
        with pytest.raises(UsageError):
            attempt()
    assert names(store) == []
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside.tar", "lib/../../outside.tar", "lib/x\0.tar"])
def test_what_is_no_key_is_neither_read_nor_deleted(store: Store, tmp_path: Path, key: str) -> None:
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
def test_what_is_not_there_is_not_found(store: Store, key: str) -> None:
    store.put_bytes("bibliotheca/other.tar", b"x")
    key = key.replace(f"{KEY}/below.tar", "nobody/below.tar")
    for attempt in (store.open, store.read_bytes):
        with pytest.raises(NotFound):
            attempt(key)


def test_an_empty_store_lists_nothing_before_and_after_it_is_prepared(room: Room) -> None:
    assert names(room.store) == [] and list(room.store.leftovers()) == []
    room.store.prepare()
    assert names(room.store) == [] and list(room.store.leftovers()) == []


def test_deleting_again_changes_nothing(store: Store) -> None:
    store.put_bytes(KEY, b"x")
    store.put_bytes("bibliotheca/other.tar", b"y")
    for _ in range(2):
        store.delete(KEY)
        assert names(store) == ["bibliotheca/other.tar"]
    store.delete("nobody/nothing.tar")


def test_usage_counts_what_is_stored(store: Store) -> None:
    used, _ = store.usage()
    assert used == 0
    store.put_bytes(KEY, bytes(1000))
    store.put_bytes(f"{KEY}.json", bytes(10))
    used, free = store.usage()
    assert used == 1010
    assert free is None or free > 0


def test_a_location_names_the_object(store: Store) -> None:
    assert store.location(KEY).endswith(KEY)


@pytest.mark.parametrize("way", ["file", "bytes"])
def test_a_full_store_says_so_and_keeps_what_it_had(room: Room, tmp_path: Path, way: str) -> None:
    data = os.urandom(500_000)
    large = tmp_path / "large.tar"
    large.write_bytes(os.urandom(1_500_000))
    with room.fill() as store:
        store.put_bytes(KEY, data)
        with pytest.raises(NoSpace) as caught:
            if way == "file":
                store.put(KEY, large)
            else:
                store.put_bytes(KEY, large.read_bytes())
        assert caught.value.on and caught.value.exit_code == 7
        assert store.read_bytes(KEY) == data
        assert names(store) == [KEY] and list(store.leftovers()) == []
        if (folder := store.local_path(KEY)) is not None:
            assert list(folder.parent.iterdir()) == [folder]


def test_a_store_that_does_not_answer_says_so_and_may_be_tried_again(room: Room, file: Path) -> None:
    store = room.store
    store.put_bytes(KEY, b"x")
    room.break_down()
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


# --- what holds for a folder alone ------------------------------------------------------------------------------------


def test_a_folder_store_gives_nobody_else_any_right(tmp_path: Path, file: Path) -> None:
    former = os.umask(0)
    try:
        store = LocalStore(path=tmp_path / "deep" / "store")
        store.put_bytes("lib/a.tar.json", b"{}")  # nothing was prepared
        file.chmod(0o666)
        store.put("lib/linked.tar", file)
        os.link(file, tmp_path / "again")
        store.put("lib/copied.tar", file)
    finally:
        os.umask(former)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (store.path, *store.path.rglob("*"))}
    assert modes == {"store": 0o700, "lib": 0o700, "a.tar.json": 0o600, "linked.tar": 0o600, "copied.tar": 0o600}


def test_the_workspace_s_file_is_taken_over_without_a_copy_once(tmp_path: Path, file: Path) -> None:
    """The second store on the same disk gets bytes of its own: two copies must not be one."""
    first, second = LocalStore(name="a", path=tmp_path / "a"), LocalStore(name="b", path=tmp_path / "b")
    first.put(KEY, file)
    second.put(KEY, file)
    one, other = first.local_path(KEY), second.local_path(KEY)
    assert one is not None and other is not None
    assert one.samefile(file)
    assert not other.samefile(file)
    one.write_bytes(b"damaged")
    assert len(other.read_bytes()) == 300_000


def test_a_write_that_was_cut_short_is_a_leftover_and_no_object(tmp_path: Path) -> None:
    store = LocalStore(path=tmp_path / "store")
    store.put_bytes("lib/a.tar", b"x")
    (store.path / "lib" / ".full_20260102_030405.tar.gz.0a1b2c3d.partial").write_bytes(b"half")
    (store.path / ".backup_index.json.0a1b2c3d.partial").write_bytes(b"half")
    others = [store.path / "lib" / ".theirs.partial", store.path / "lib" / "theirs.0a1b2c3d.partial"]
    for other in others:
        other.write_bytes(b"another program's")
    assert names(store) == ["lib/a.tar", "lib/theirs.0a1b2c3d.partial"]
    left = list(store.leftovers())
    assert [info.key for info in left] == [
        ".backup_index.json.0a1b2c3d.partial",
        "lib/.full_20260102_030405.tar.gz.0a1b2c3d.partial",
    ]
    for info in left:
        store.discard(info)
        store.discard(info)
    assert list(store.leftovers()) == []
    assert names(store) == ["lib/a.tar", "lib/theirs.0a1b2c3d.partial"] and all(other.exists() for other in others)


def test_what_others_keep_in_the_folder_is_listed_at_most_and_survives_odd_names(tmp_path: Path) -> None:
    store = LocalStore(path=tmp_path / "store")
    store.put_bytes("lib/a.tar", b"x")
    (store.path / "lib" / "deeper" / "still").mkdir(parents=True)
    (store.path / "lib" / "deeper" / "b.tar").write_bytes(b"not an object of ours")
    (store.path / ".hidden").mkdir()
    (store.path / ".hidden" / "c.tar").write_bytes(b"not ours")
    (store.path / "lib" / "link.tar").symlink_to("/etc/passwd")
    (store.path / "lib" / "dangling.tar").symlink_to("nowhere")
    os.mkfifo(store.path / "lib" / "pipe.tar")
    (store.path / "lib" / os.fsdecode(b"\xff\xfe.tar")).touch()
    assert names(store) == ["lib/a.tar", "lib/\udcff\udcfe.tar"]
    store.delete("lib/\udcff\udcfe.tar")
    assert names(store) == ["lib/a.tar"]


def test_a_put_that_is_killed_leaves_the_former_object(tmp_path: Path) -> None:
    """A child that dies in the middle of writing: the object is the old one, the rest is a leftover."""
    store = LocalStore(path=tmp_path / "store")
    store.put_bytes(KEY, b"former")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from scriptorium.stores import LocalStore\n"
        "real = os.fsync\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalStore(path=Path(sys.argv[1])).put_bytes(sys.argv[2], b'new' * 100000)\n"
    )
    child = subprocess.run([sys.executable, "-c", script, str(store.path), KEY], capture_output=True)
    assert child.returncode == -9, child.stderr
    assert store.read_bytes(KEY) == b"former"
    assert names(store) == [KEY]
    assert len(list(store.leftovers())) == 1


def test_a_filesystem_that_takes_no_larger_file_is_not_tried_again(tmp_path: Path) -> None:
    """FAT ends at 4 GiB; a limit on this process stands in for it."""
    import resource
    import signal

    former_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    former_signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LocalStore(path=tmp_path / "store")
    store.prepare()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, former_limit[1]))
        with pytest.raises(NoSpace):
            store.put_bytes(KEY, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former_limit)
        signal.signal(signal.SIGXFSZ, former_signal)
    assert names(store) == [] and list(store.leftovers()) == []
