"""What is true only of a store that is a folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from store_fixtures import KEY, names

from scriptorium.errors import NoSpace
from scriptorium.stores.objects.local import LocalObjects


def test_a_folder_store_gives_nobody_else_any_right(tmp_path: Path, file: Path) -> None:
    previous = os.umask(0)
    try:
        store = LocalObjects(path=tmp_path / "deep" / "store")
        store.put_bytes("lib/a.tar.json", b"{}")  # nothing was prepared
        file.chmod(0o666)
        store.put("lib/linked.tar", file)
        os.link(file, tmp_path / "again")
        store.put("lib/copied.tar", file)
    finally:
        os.umask(previous)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (store.path, *store.path.rglob("*"))}
    assert modes == {"store": 0o700, "lib": 0o700, "a.tar.json": 0o600, "linked.tar": 0o600, "copied.tar": 0o600}


def test_the_workspace_s_file_is_taken_over_without_a_copy_once(tmp_path: Path, file: Path) -> None:
    """The second store on the same disk gets bytes of its own: two copies must not be one."""
    first, second = LocalObjects(name="a", path=tmp_path / "a"), LocalObjects(name="b", path=tmp_path / "b")
    first.put(KEY, file)
    second.put(KEY, file)
    one, other = first.path / KEY, second.path / KEY
    assert one.samefile(file)
    assert not other.samefile(file)
    one.write_bytes(b"damaged")
    assert len(other.read_bytes()) == 300_000


def test_a_write_that_was_cut_short_is_a_leftover_and_no_object(tmp_path: Path) -> None:
    store = LocalObjects(path=tmp_path / "store")
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
    store = LocalObjects(path=tmp_path / "store")
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


def test_a_put_that_is_killed_leaves_the_previous_object(tmp_path: Path) -> None:
    """A child dies in the middle of a write: the object is the previous one, the rest is a leftover."""
    store = LocalObjects(path=tmp_path / "store")
    store.put_bytes(KEY, b"former")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from scriptorium.stores.objects.local import LocalObjects\n"
        "real = os.fsync\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalObjects(path=Path(sys.argv[1])).put_bytes(sys.argv[2], b'new' * 100000)\n"
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

    previous_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous_signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LocalObjects(path=tmp_path / "store")
    store.prepare()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, previous_limit[1]))
        with pytest.raises(NoSpace):
            store.put_bytes(KEY, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous_limit)
        signal.signal(signal.SIGXFSZ, previous_signal)
    assert names(store) == [] and list(store.leftovers()) == []
