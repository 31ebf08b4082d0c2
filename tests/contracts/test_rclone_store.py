"""What rclone alone does: names that a remote does not take, copies in the remote, hashes of the remote, crypt."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prepared_backup import LABEL, LATER, TAKEN, folder_of_everything, prepared
from rclone_remote import WHEELS, crypt_store, rclone_store, require_rclone
from s3_server import ACCESS, SECRET, s3_server

from scriptorium.errors import DamageFound, StoreRefused, StoreUnavailable
from scriptorium.members import write_members
from scriptorium.operations.copies import check, put
from scriptorium.stores import RcloneStore, Share
from scriptorium.stores.trees.rclone import saving, sending
from scriptorium.words import Compression


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_everything(tmp_path / "data")


def stored(store: RcloneStore, data: Path, number: int = 1) -> str:
    one = prepared(data, store, label=LABEL if number == 1 else f"{LABEL}-{number}")
    return put(store, Compression.GZIP, one, check(one)).key


def restored(store: RcloneStore, key: str, folder: Path) -> Path:
    with store.members(key) as members:
        write_members(members, lambda path: folder / path, roots=[folder], expected=store.manifest(key).files)
    return folder


def test_a_bucket_copies_what_is_the_same_by_itself(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A life there, in one go: each step is a call."""
    require_rclone()
    server = s3_server()
    bucket = server.bucket("by-rclone")
    options = {"type": "s3", "provider": "Other", "endpoint": server.url, "access_key_id": ACCESS}
    (tmp_path / "key").write_text(f"{SECRET}\n")
    secret = {"secret_access_key": tmp_path / "key"}
    store = rclone_store(tmp_path, remote=f"bucket:{bucket}/books", options=options, options_file=secret)
    assert list(store.list()) == [] and store.is_free("lib", LABEL) and store.usage() == (0, None)
    read: list[list[str]] = []
    real_read = saving.read_back_lines

    def reading(lines: Any, returned: Any) -> Any:
        read.append([line.entry.path for line in lines])
        return real_read([], returned)

    monkeypatch.setattr("scriptorium.stores.trees.rclone.files._SENT_WHOLE", 1000)  # noise is sent in pieces
    monkeypatch.setattr(saving, "read_back_lines", reading)
    first = stored(store, data)
    (data / "new").write_text("new")
    sent: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        real = sending.Sending._send_tree
        patch.setattr(
            sending.Sending,
            "_send_tree",
            lambda self, number, lines, advance: (
                sent.extend(line.entry.path for line in lines),
                real(self, number, lines, advance),
            ),
        )
        second = stored(store, data, 2)
    assert sent == ["data/new"] and read == [["data/noise"], []]
    assert [found.key for found in store.list("lib")] == [first, second]
    assert store.annotations(second).verification is not None
    back = restored(store, second, tmp_path / "back")
    assert (back / "data/noise").read_bytes() == (data / "noise").read_bytes()
    store.remove(first)
    assert store.sweep(TAKEN + LATER) == ()
    assert [found.key for found in store.list()] == [second] and store.verify(second).sound
    server.client.delete_object(Bucket=bucket, Key=f"books/{second}/contents/data/noise")
    assert "noise" in str(store.verify(second, share=Share(1, 1)).damage)
    wrong = rclone_store(tmp_path, remote=f"bucket:{bucket}/books", options=options | {"secret_access_key": "wrong"})
    with pytest.raises(StoreRefused, match="SignatureDoesNotMatch"):
        list(wrong.list())


def test_a_remote_of_crypt_shows_no_names_and_no_contents(data: Path, tmp_path: Path) -> None:
    store = crypt_store(tmp_path)
    key = stored(store, data)
    there = list((tmp_path / "store").rglob("*"))
    assert not any("noise" in path.name or "manifest" in path.name for path in there)
    noise = (data / "noise").read_bytes()
    assert not any(noise[:100] in path.read_bytes() for path in there if path.is_file())
    assert (restored(store, key, tmp_path / "back") / "data/noise").read_bytes() == noise
    largest = max((path for path in there if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-10] + b"0123456789")
    assert "noise" in str(store.verify(key).damage)


def test_names_that_rclone_cannot_hold_come_back_from_the_record(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "empty").mkdir(parents=True)
    odd = [os.fsdecode(b"\xff odd"), "two\nlines", " in front", "\u201b quoted"]
    for name in [*odd, "plain"]:
        (data / name).write_text(f"of {name!r}")
    (data / "plain").chmod(0o640)
    (data / "link").symlink_to("plain")
    store = rclone_store(tmp_path)
    key = stored(store, data)
    warnings = "\n".join(store.manifest(key).warnings)
    assert "1 links are in the record alone" in warnings
    assert warnings.count("because of its name") == 4 and "renamed/000004" in warnings
    back = restored(store, key, tmp_path / "back") / "data"
    assert all((back / name).read_text() == f"of {name!r}" for name in [*odd, "plain"])
    assert (
        (back / "link").is_symlink() and (back / "empty").is_dir() and (back / "plain").stat().st_mode & 0o777 == 0o640
    )
    assert store.verify(key).sound and store.verify(key, share=Share(1, 1)).sound
    listing = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "store" / key)
    assert listing.returncode == 0


def test_a_file_that_does_not_arrive_is_sent_again_by_number(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rclone says nothing of a name in its list that it does not find; another remote may refuse a name."""
    monkeypatch.setattr("scriptorium.stores.trees.rclone.saving._LATE", 0.0)
    real = sending.Sending._listing
    monkeypatch.setattr(
        sending.Sending,
        "_listing",
        lambda self, name, paths: real(self, name, (f"{path}.x" if path.endswith("noise") else path for path in paths)),
    )
    store = rclone_store(tmp_path)
    key = stored(store, data)
    assert any("noise: stored as renamed/" in warning for warning in store.manifest(key).warnings)
    assert (restored(store, key, tmp_path / "back") / "data/noise").read_bytes() == (data / "noise").read_bytes()


def test_what_changed_before_rclone_read_it_is_named(data: Path, tmp_path: Path) -> None:
    store = rclone_store(tmp_path)
    one = prepared(data, store)
    (data / "noise").write_bytes(b"later")
    (data / "odd").unlink(missing_ok=True)
    key = put(store, Compression.GZIP, one, check(one)).key
    assert any("data/noise: changed after it was read" in warning for warning in store.manifest(key).warnings)
    assert (restored(store, key, tmp_path / "back") / "data/noise").read_bytes() == b"later"
    assert store.verify(key).sound


def test_another_hosts_backup_of_the_same_name_is_respected(data: Path, tmp_path: Path) -> None:
    store = rclone_store(tmp_path)
    stored(store, data)
    other = prepared(data, store)
    (package,) = other.packages.values()
    object.__setattr__(package.manifest, "id", "ffffffffffff")
    with pytest.raises(StoreRefused, match="has this name already"):
        store.put(package)


def test_what_arrives_damaged_is_no_backup(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scriptorium.stores.trees.rclone.saving._LATE", 0.0)
    monkeypatch.setattr("scriptorium.stores.trees.rclone.arrival._wanted", lambda *_: "0" * 64)
    store = rclone_store(tmp_path)
    with pytest.raises(DamageFound, match="reads back differently"):
        stored(store, data)
    assert list(store.list()) == [] and len(store.sweep(TAKEN + LATER)) <= 1


def test_a_server_that_is_away_and_a_remote_that_nobody_knows(tmp_path: Path) -> None:
    away = rclone_store(tmp_path, remote="away:x", options={"type": "webdav", "url": "http://127.0.0.1:9"})
    with pytest.raises(StoreUnavailable):
        list(away.list())
    with pytest.raises(StoreRefused, match="does not know this remote"):
        list(rclone_store(tmp_path, remote="nobody:x").list())


def test_a_server_of_webdav_gives_no_hashes_and_is_read_back(data: Path, tmp_path: Path) -> None:
    require_rclone()
    served = tmp_path / "served"
    served.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", "webdav", str(served), "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
    with subprocess.Popen([WHEELS / "rclone", *words], stderr=subprocess.DEVNULL) as server:
        try:
            options = {"type": "webdav", "url": f"http://127.0.0.1:{port}", "vendor": "other"}
            store = rclone_store(tmp_path, remote="dav:books", options=options)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.1)
            key = stored(store, data)
            assert store.program.abilities.hashes == () and [found.key for found in store.list()] == [key]
            file = served / "books" / key / "contents/data/noise"
            assert file.read_bytes() == (data / "noise").read_bytes() and store.verify(key).sound
            file.write_bytes(file.read_bytes()[:-1] + b"x")
            assert "noise" in str(store.verify(key).damage)
            store.remove(key)
            assert list(store.list()) == [] and store.is_free("lib", LABEL)
        finally:
            server.terminate()
