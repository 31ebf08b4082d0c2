"""A store of rsync on another host: the life of a backup, missing programs, refused logins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prepared_backup import LABEL, LATER, folder_of_everything
from rsync_backups import contents, restored, stored
from ssh_server import remote_store, ssh_server

from scriptorium.errors import NotFound, StoreRefused, StoreUnavailable, ToolMissing
from scriptorium.stores import Share


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_everything(tmp_path / "data")


def test_a_backup_on_another_host(data: Path, tmp_path: Path) -> None:
    """The whole life of a backup in one test: each step is a connection."""
    store = remote_store(tmp_path / "store", bwlimit="100m")
    assert list(store.list()) == [] and store.is_free("lib", LABEL)
    first = stored(store, data)
    (data / "new").write_text("new")
    second = stored(store, data, 2)
    assert [found.key for found in store.list("lib")] == [first, second] and not store.is_free("lib", LABEL)
    assert (contents(store, first) / "data/noise").samefile(contents(store, second) / "data/noise")
    assert (restored(store, second, tmp_path / "back") / "data/noise").read_bytes() == (data / "noise").read_bytes()
    with store.members(second, lambda path: path == "data/new") as members:
        assert [member.contents() for member in members] == [b"new"]
    assert store.verify(second, share=Share(1, 2)).sound and store.verify(second, share=Share(2, 2)).sound
    (contents(store, first) / "data/noise").write_bytes(b"other")
    damage = store.verify(second).damage
    assert len(damage) == 1 and damage[0].startswith("altered member: data/noise")
    known = store.annotations(first)
    store.annotate(first, replace(known, pinned=True))
    assert store.annotations(first).pinned
    with pytest.raises(NotFound):
        store.annotate("lib/nothing", known)
    store.remove(first)
    assert [found.key for found in store.list()] == [second] and store.sweep(datetime.now(UTC) + LATER) == ()
    assert [one.what for one in store.examine(try_delete=True)] == ["program", "removal"]
    used, free = store.usage()
    assert used > 50_000 and free is not None and free > 0


def test_a_host_that_does_not_let_us_in_or_is_another(data: Path, tmp_path: Path) -> None:
    server = ssh_server()

    def trouble(kind: type[Exception], text: str, **settings: Any) -> None:
        with pytest.raises(kind, match=text):
            list(remote_store(tmp_path / "store", **settings).list())

    trouble(StoreRefused, "does not let us in", ssh=server.words(key="stranger"))
    trouble(StoreRefused, "not known", ssh=server.words(known="nothing"))
    trouble(StoreRefused, "another one than before", ssh=server.words(known="changed"))
    trouble(StoreUnavailable, "Connection refused", ssh=("ssh", "-p", "1"))
    trouble(ToolMissing, "rsync is not installed on the host", rsync_path="no-such-rsync")
    trouble(ToolMissing, "program not found", ssh=("no-such-ssh",))


def test_a_host_without_sha256sum_is_read_back(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scriptorium.stores.trees.rsync.remote._HASH", "exit 127")
    monkeypatch.setattr("scriptorium.stores.trees.rsync.remote._TOGETHER", 40_000)  # noise comes as a stream
    store = remote_store(tmp_path / "store")
    key = stored(store, data)
    assert store.verify(key).sound
    (contents(store, key) / "data/noise").write_bytes(b"x" * 50_000)
    assert len(store.verify(key).damage) == 1


def test_a_change_on_the_way_to_another_host_is_named(data: Path, tmp_path: Path) -> None:
    store = remote_store(tmp_path / "store")
    (data / "gone").write_text("gone")

    def meanwhile() -> None:
        (data / "noise").write_bytes(b"later" * 999)
        (data / "gone").unlink()

    key = stored(store, data, meanwhile=meanwhile)
    assert len(store.manifest(key).warnings) == 2 and store.verify(key).sound
    (entry,) = (one for one in store.manifest(key).files.entries or () if one.path == "data/noise")
    assert (entry.size, entry.mtime_ns) == (4995, (data / "noise").lstat().st_mtime_ns)


def test_a_file_that_the_disk_of_a_host_cannot_read_is_damage(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = remote_store(tmp_path / "store")
    key = stored(far, data)
    broken = "echo 'sha256sum: ./data/noise: Input/output error' >&2; exit 123"
    monkeypatch.setattr("scriptorium.stores.trees.rsync.remote._HASH", broken)
    assert any("data/noise" in one and "unreadable" in one for one in far.verify(key).damage)
    denied = "echo 'sha256sum: ./data/noise: Permission denied' >&2; exit 123"
    monkeypatch.setattr("scriptorium.stores.trees.rsync.remote._HASH", denied)
    with pytest.raises(StoreUnavailable, match="permission denied"):
        far.verify(key)
