"""Repositories of restic that are not a folder of ours alone: on servers, append-only, and what removals leave."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prepared_backup import LATER, folder_of_everything, prepared
from restic_repository import make_repository, new_store, restic_store
from s3_server import ACCESS, SECRET, s3_server
from ssh_server import ssh_server

from scriptorium import workspace
from scriptorium.errors import Protected, StoreRefused
from scriptorium.operations.backup import plan_backup, take
from scriptorium.operations.copies import check, put
from scriptorium.operations.prune import delete, prune
from scriptorium.operations.stores import examine
from scriptorium.requests import BackupRequest, DeleteRequest, PruneRequest
from scriptorium.retention import Policy
from scriptorium.settings import Settings, load
from scriptorium.stores import ResticStore
from scriptorium.stores.care import examine as examine_store
from scriptorium.stores.trees.restic import store as module
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.words import Compression

RCLONE = Path(sys.executable).with_name("rclone")
pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
needs_rclone = pytest.mark.skipif(not RCLONE.exists(), reason="rclone is not installed")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_everything(tmp_path / "data")


@contextlib.contextmanager
def served(folder: Path, *words: str) -> Iterator[str]:
    """A repository in ``folder`` behind a REST server."""
    make_repository(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
    command = [str(RCLONE), "serve", "restic", *words, "--addr", f"127.0.0.1:{port}", str(folder)]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"rest:http://127.0.0.1:{port}/"
    finally:
        child.terminate()
        child.wait(20)


def stored(store: ResticStore, data: Path, **how: Any) -> str:
    one = prepared(data, store, **how)
    return put(store, Compression.GZIP, one, check(one)).key


def everything_works(store: ResticStore, data: Path) -> None:
    key = stored(store, data)
    assert [found.key for found in store.list()] == [key] and store.verify(key).sound
    with store.members(key, lambda path: path == "data/noise") as members:
        assert [member.contents() for member in members] == [(data / "noise").read_bytes()]
    store.remove(key)
    store.reclaim()
    assert list(store.list()) == []


@needs_rclone
def test_a_repository_behind_a_rest_server(data: Path, tmp_path: Path) -> None:
    with served(tmp_path / "served") as address:
        everything_works(new_store(tmp_path, repository=address, cache=tmp_path / "cache"), data)
    assert (tmp_path / "cache").is_dir()


@needs_rclone
@pytest.mark.slow
def test_a_repository_behind_rclone(data: Path, tmp_path: Path) -> None:
    make_repository(tmp_path / "there")
    options = {"rclone.program": str(RCLONE)}
    everything_works(new_store(tmp_path, repository=f"rclone::local:{tmp_path}/there", options=options), data)


def test_a_repository_by_sftp(data: Path, tmp_path: Path) -> None:
    server = ssh_server()
    make_repository(tmp_path / "there")
    command = " ".join((*server.shared(), server.host, "-s", "sftp"))
    place = f"sftp:{server.host}:{tmp_path}/there"
    everything_works(new_store(tmp_path, repository=place, options={"sftp.command": command}), data)


@pytest.mark.slow
def test_a_repository_in_a_bucket(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = s3_server()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    address = f"s3:{server.url}/{server.bucket('restic')}/vault"
    store = new_store(tmp_path, repository=address, options={"s3.bucket-lookup": "path"}, cache=tmp_path / "cache")
    everything_works(store, data)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StoreRefused, match="the server refuses the request"):
        list(store.list())


@needs_rclone
def test_an_append_only_repository_takes_backups_and_keeps_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused removal is no error of a put. restic itself retries a removal for most of a minute: only once."""
    monkeypatch.setattr(module, "_append_only", {})
    with served(tmp_path / "served", "--append-only") as address:
        store = new_store(tmp_path, repository=address, cache=tmp_path / "cache")
        key = stored(store, data)
        store.annotate(key, store.annotations(key))
        store.annotate(key, store.annotations(key))  # the replaced annotations stay
        assert store.verify(key).sound
        module._append_only[address] = time.monotonic()  # as after a first attempt
        with pytest.raises(Protected, match="nothing may be removed"):
            store.remove(key)
        assert store.sweep(datetime.now(UTC) + LATER) == () and [found.key for found in store.list()] == [key]


@needs_rclone
@pytest.mark.slow
def test_an_attempt_to_remove_shows_that_a_repository_is_append_only(data: Path, tmp_path: Path) -> None:
    with served(tmp_path / "served", "--append-only") as address:
        store = new_store(tmp_path, repository=address, cache=tmp_path / "cache")
        found = {one.what: one for one in examine_store(store, try_delete=True)}
        assert "nothing may be removed" in found["removal"].found and found["removal"].good
        key = stored(store, data)
        with pytest.raises(Protected):
            store.remove(key)
        assert store.verify(key).sound


def test_a_repository_is_examined(data: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "restic")
    assert [one.good for one in examine_store(store) if one.what == "repository"] == [None]
    store = restic_store(tmp_path / "made")
    key = stored(store, data)
    found = {one.what: one for one in examine_store(store, try_delete=True)}
    assert all(one.good is not False for one in found.values()), found
    assert "can be removed" in found["removal"].found and "no damage" in found["structure"].found
    assert [one.key for one in store.list()] == [key]
    index = max((Path(store.repository) / "data").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    index.unlink()
    found = {one.what: one for one in examine_store(store)}
    assert found["structure"].good is False and found["structure"].found


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> Settings:
    store = restic_store(tmp_path / "restic")
    file = tmp_path / "scriptorium.toml"
    file.write_text(
        f'workspace = "{tmp_path}/work"\n[libraries.lib]\n'
        f'sources = [{{ name = "data", kind = "files", path = "{data}" }}]\n[stores.vault]\nkind = "restic"\n'
        f'repository = "{store.repository}"\npassword_file = "{store.password_file}"\n'
    )
    return load(file, {})


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prune of a repository."""
    calls: list[str] = []
    real = Restic.run

    def counting(self: Restic, *words: str, **how: Any) -> Any:
        calls.extend(words[:1] if "prune" in words or "--prune" in words else [])
        return real(self, *words, **how)

    monkeypatch.setattr(Restic, "run", counting)
    return calls


def taken(settings: Settings, count: int, *, day: int = 1) -> list[str]:
    start = datetime(2026, 1, day, tzinfo=UTC)
    plans = [plan_backup(settings, BackupRequest(), now=start + timedelta(days=later)) for later in range(count)]
    return [take(settings, plan).backup.id for plan in plans]


def test_many_removals_are_one_prune(settings: Settings, data: Path, pruned: list[str]) -> None:
    taken(settings, 2)
    repository = Path(settings.store("vault").folder or "")
    before = sum(path.stat().st_size for path in (repository / "data").rglob("*") if path.is_file())
    (data / "noise").write_bytes(b"")
    taken(settings, 1, day=9)
    result = prune(settings, PruneRequest(policy=Policy(last=1)))
    assert len(result.removed) == 2 and pruned == ["prune"] and not result.unreclaimed
    after = sum(path.stat().st_size for path in (repository / "data").rglob("*") if path.is_file())
    assert after < before / 2 and workspace.unreclaimed(settings) == ()


def test_a_cleanup_that_was_cut_short_before_its_prune_is_completed(
    settings: Settings, pruned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = taken(settings, 2)

    def locked(_: ResticStore) -> None:
        raise Protected("nothing may be removed from this repository", on="vault")

    with monkeypatch.context() as patched:
        patched.setattr(ResticStore, "reclaim", locked)
        delete(settings, DeleteRequest(reference=first))
    assert pruned == [] and workspace.unreclaimed(settings) == ("vault",)
    result = prune(settings, PruneRequest(dry_run=True))
    assert pruned == [] and not result.unreclaimed
    prune(settings, PruneRequest())
    assert pruned == ["prune"] and workspace.unreclaimed(settings) == ()
    prune(settings, PruneRequest())
    assert pruned == ["prune"]


@pytest.mark.slow
def test_a_store_that_must_wait_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(settings, 2)

    def locked(_: ResticStore) -> None:
        raise Protected("nothing may be removed from this repository", on="vault")

    monkeypatch.setattr(ResticStore, "reclaim", locked)
    result = prune(settings, PruneRequest(policy=Policy(last=1)))
    assert list(result.unreclaimed) == ["vault"] and len(result.removed) == 1


def test_stores_are_examined_through_the_operation(settings: Settings) -> None:
    assert {one.what for one in examine(settings)} >= {"answers", "program", "repository"}
