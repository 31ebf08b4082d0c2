"""The stores listed, made and examined: one that is of no use does not hide the others."""

from __future__ import annotations

import errno
import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from s3_server import s3_server
from store_fixtures import s3_place

from scriptorium.catalog import Catalog
from scriptorium.cli.main import app
from scriptorium.errors import SettingsError, StoreRefused
from scriptorium.operations.backup import plan_backup, take
from scriptorium.operations.stores import examine, initialize, states
from scriptorium.report.report import Table
from scriptorium.report.stores import findings_report, stores_report
from scriptorium.requests import BackupRequest
from scriptorium.settings import load
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.words import Status

Shelf = Any


@pytest.fixture
def shelf(new_shelf: Callable[..., Shelf]) -> Shelf:
    """A folder, a bucket, and a bucket that is not there."""
    shelf = new_shelf("local")
    settings = s3_place(s3_server())
    more = {
        "bucket": S3Store(name="bucket", **settings),
        "nowhere": S3Store(name="nowhere", **(settings | {"bucket": f"nowhere-{secrets.token_hex(4)}"})),
    }
    shelf.settings = shelf.settings.model_copy(update={"stores": {**shelf.settings.stores, **more}})
    return shelf


def test_every_store_reports_its_features_and_usage(shelf: Shelf) -> None:
    backup = shelf.put(timedelta(0), "local", "bucket")
    local, bucket, nowhere = states(shelf.settings)
    assert (local.backups, bucket.backups) == (1, 1) and local.newest == bucket.newest == backup.created_at
    assert bucket.features["remote"] and bucket.features["resumes"] and not local.features["remote"]
    assert bucket.used and bucket.free is None and local.free
    assert "there is no bucket 'nowhere-" in nowhere.error and nowhere.used is None
    report = stores_report([local, bucket, nowhere])
    assert isinstance(report.document, dict) and isinstance(report.blocks[0], Table)
    assert [one["reachable"] for one in report.document["stores"]] == [True, True, False]
    assert [row["Answers"] for row in report.blocks[0].rows[:2]] == ["yes", "yes"]
    assert "resumes" in report.blocks[0].rows[1]["Features"]


def test_stores_are_examined_one_after_the_other(shelf: Shelf) -> None:
    found = list(examine(shelf.settings, ("local", "nowhere")))
    assert {one.store for one in found if one.good is False} == {"nowhere"}
    report = findings_report(found)
    assert isinstance(report.document, dict) and isinstance(report.blocks[0], Table)
    assert not report.good and report.document["good"] is False
    assert {row["Verdict"] for row in report.blocks[0].rows} == {"good", "bad"}


def test_a_bucket_is_made_where_it_is_not_there(shelf: Shelf) -> None:
    made = {one.store: one.found for one in initialize(shelf.settings)}
    assert "was made" in made["nowhere"] and "is there" in made["bucket"] and made["local"]
    assert not states(shelf.settings, ("nowhere",))[0].error


def test_a_store_that_refuses_gets_no_copy_and_the_others_do(shelf: Shelf) -> None:
    (shelf.folder / "up-lib").mkdir()
    (shelf.folder / "up-lib" / "a.jpg").write_bytes(b"a picture")
    wrong = shelf.settings.store("bucket").model_copy(update={"name": "wrong", "profile": "wrong"})
    shelf.settings = shelf.settings.model_copy(update={"stores": {**shelf.settings.stores, "wrong": wrong}})
    request = BackupRequest(library="lib", to=("wrong", "nowhere", "local", "bucket"))
    result = take(shelf.settings, plan_backup(shelf.settings, request))
    assert {copy.store for copy in result.backup.copies} == {"local", "bucket"}
    assert {store: type(error) for store, error in result.failed.items()} == dict.fromkeys(
        ("wrong", "nowhere"), StoreRefused
    )
    assert result.backup.status is Status.DEGRADED
    assert {one.store for one in result.backup.missing} == {"wrong", "nowhere"}
    assert {problem.store for problem in Catalog(shelf.settings).listing().problems} == {"wrong", "nowhere"}


def test_a_local_store_learns_the_same_attempt(shelf: Shelf) -> None:
    found = {one.what: one for one in examine(shelf.settings, ("local",), try_delete=True)}
    assert found["removal"].good is None and "can be removed" in found["removal"].found


def test_a_folder_that_is_read_only_or_append_only_is_found(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", denied)
    found = {one.what: one for one in examine(shelf.settings, ("local",), try_delete=True)}["removal"]
    assert found.good is False and "cannot be removed" in found.found

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", read_only)
    found = {one.what: one for one in examine(shelf.settings, ("local",), try_delete=True)}["writing"]
    assert found.good is False and "nothing can be written" in found.found


def test_the_command_lists_and_examines(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scriptorium.cli.stores.current", lambda: shelf.settings)
    monkeypatch.setattr("scriptorium.cli.output.manner.json", True)
    app(["stores", "--json"], standalone_mode=False)
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["stores"]] == ["local", "bucket", "nowhere"]
    app(["stores", "check", "local"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["good"] is True


def test_two_stores_in_one_bucket_have_a_prefix_each(write: Callable[[str], Path]) -> None:
    """Two in one place would be one copy that looks like two."""
    library = '[libraries.lib]\nsources = [{ name = "up", kind = "files", path = "up" }]\n'
    store = '[stores.{}]\nkind = "s3"\nbucket = "library-backups"\nprefix = "{}"\nendpoint_url = "{}"\n'
    here, there = "https://one.example", "https://two.example"
    with pytest.raises(SettingsError, match="the stores 'a' and 'b' are the same place"):
        load(write(library + store.format("a", "home", here) + store.format("b", "home/", f"{here}/")), {})
    for prefix, address in (("office", here), ("home", there)):
        assert load(write(library + store.format("a", "home", here) + store.format("b", prefix, address)), {})


def test_a_store_whose_disk_is_not_mounted_does_not_begin_anew(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (shelf.folder / "up-lib").mkdir()
    settings = shelf.settings.model_copy(update={"workspace": tmp_path / "elsewhere"})
    request, store = BackupRequest(library="lib", to=("local",)), settings.store("local")
    mounts = {"local": shelf.folder / "disk"}
    monkeypatch.setattr("scriptorium.workspace.mounted.mount_of", lambda _: mounts["local"])
    take(settings, plan_backup(settings, request, now=shelf.start))
    take(settings, plan_backup(settings, request, now=shelf.start + timedelta(hours=1)))
    store.path.rename(shelf.folder / "moved away")
    mounts["local"] = Path("/")
    for exists in (False, True):
        if exists:
            store.path.mkdir()
        with pytest.raises(StoreRefused, match=r"not mounted: it was at .*/disk") as caught:
            take(settings, plan_backup(settings, request, now=shelf.start + timedelta(hours=2 + exists)))
        assert "stores init local" in caught.value.hint
    assert not list(store.path.iterdir())
    (made,) = initialize(settings, ("local",))
    assert made.good is not False
    take(settings, plan_backup(settings, request, now=shelf.start + timedelta(hours=5)))
    assert len(list(store.list())) == 1


def test_a_store_that_was_emptied_on_its_disk_begins_anew(shelf: Shelf) -> None:
    (shelf.folder / "up-lib").mkdir()
    request, store = BackupRequest(library="lib", to=("local",)), shelf.settings.store("local")
    take(shelf.settings, plan_backup(shelf.settings, request, now=shelf.start))
    store.path.rename(shelf.folder / "moved away")
    take(shelf.settings, plan_backup(shelf.settings, request, now=shelf.start + timedelta(hours=1)))
    assert len(list(store.list())) == 1
