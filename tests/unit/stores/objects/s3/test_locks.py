"""Object Lock on a real server: objects stay until their time, cleanup respects it, an attempt proves it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from prepared_backup import LATER, folder_of_everything, prepared
from pydantic import ValidationError
from s3_server import S3Server
from store_fixtures import KEY, LARGE, names, s3_place

from scriptorium.errors import Protected, StoreRefused, StoreUnavailable
from scriptorium.manifest import annotations_key
from scriptorium.model import Annotations
from scriptorium.stores.care import Finding, examine
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.stores.objects.s3.objects import S3Objects
from scriptorium.stores.objects.s3.versions import lock_of, versions_of
from scriptorium.words import Tier

SECOND = 1 / 86_400
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def locked(server: S3Server) -> Callable[..., S3Store]:
    """A store in a bucket that can lock; by default in governance for an hour."""
    settings = s3_place(server) | {"bucket": server.bucket("locks", locked=True), "part_size": 5}

    def make(mode: str = "governance", days: float = 3600 * SECOND, **more: Any) -> S3Store:
        return S3Store(**(settings | {"lock": {"mode": mode, "days": days}} | more))

    return make


def putting(store: S3Store, seconds: float = 3600) -> S3Objects:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    return replace(store.objects, owner="0123456789ab", retain_until=until)


def by_name(store: S3Store, *, try_delete: bool = False) -> dict[str, Finding]:
    return {one.what: one for one in examine(store, try_delete=try_delete)}


def test_a_lock_ends_by_tier() -> None:
    lock = S3Store(bucket="b-b", lock={"mode": "compliance", "days": 7, "tiers": {"monthly": 365, "hourly": 0}}).lock
    assert lock is not None
    assert lock.until(Tier.DAILY, NOW) == NOW + timedelta(days=7)
    assert lock.until(Tier.MONTHLY, NOW) == NOW + timedelta(days=365)
    assert lock.until(Tier.HOURLY, NOW) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"lock": {"mode": "governance", "days": 1}, "checksums": "none"},
        {"kms_key": "alias/backups"},
        {"kms_key": "alias/backups", "encryption": "AES256"},
        {"prefix": "a//b"},
        {"prefix": "../b"},
        {"endpoint_url": "https://key:secret@s3.example"},
        {"lock": {"mode": "soft"}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        S3Store(**({"bucket": "library-backups"} | wrong))


@pytest.mark.parametrize(
    ("mode", "size"),
    [("governance", 1000), ("compliance", LARGE), pytest.param("governance", LARGE, marks=pytest.mark.slow)],
)
def test_a_locked_object_is_not_removed_and_the_error_names_the_end_of_the_lock(
    locked: Callable[..., S3Store], tmp_path: Path, mode: str, size: int
) -> None:
    store = locked(mode)
    file = tmp_path / "a.tar"
    file.write_bytes(os.urandom(size))
    putting(store, 60).put(KEY, file)
    with pytest.raises(Protected, match=rf"the store locks this until .* UTC \({mode}\)"):
        store.objects.delete(KEY)
    assert names(store.objects) == [KEY], "not even hidden"


def test_a_continued_upload_is_locked_as_long_as_a_new_one(
    locked: Callable[..., S3Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = locked()
    file = tmp_path / "a.tar"
    file.write_bytes(os.urandom(LARGE))
    earlier, now = putting(store, 60), putting(store, 3600)
    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr(S3Objects, "complete_upload", Mock(side_effect=StoreUnavailable("gone")))
        earlier.put(KEY, file)
    now.put(KEY, file)
    lock = lock_of(store.objects, KEY)
    assert lock is not None and lock.until == now.retain_until and list(store.objects.leftovers()) == []


def test_what_is_no_longer_locked_is_removed_with_every_version(locked: Callable[..., S3Store]) -> None:
    store = locked()
    putting(store, 3).put_bytes(KEY, b"first")
    store.objects.put_bytes(KEY, b"second")
    with pytest.raises(Protected):
        putting(store, 3).put_bytes(f"{KEY}.json", b"{}")
        store.objects.delete(f"{KEY}.json")
    time.sleep(3.2)
    store.objects.delete(KEY)
    store.objects.delete(f"{KEY}.json")
    assert names(store.objects) == [] and list(versions_of(store.objects)) == []


def test_an_older_version_that_is_locked_is_not_restored(locked: Callable[..., S3Store]) -> None:
    store = locked()
    putting(store, 30).put_bytes(KEY, b"old and locked")
    store.objects.put_bytes(KEY, b"new and not locked")
    store.objects.delete(KEY)
    assert names(store.objects) == []
    assert [one.size for one in versions_of(store.objects) if not one.marker] == [len("old and locked")]


def test_a_put_with_a_lock_into_a_bucket_without_locks_is_refused(server: S3Server) -> None:
    store = S3Store(**s3_place(server), lock={"mode": "governance", "days": 1})
    with pytest.raises(StoreRefused, match="cannot lock") as caught:
        putting(store).put_bytes(KEY, b"x")
    assert "stores init" in caught.value.hint
    assert by_name(store)["lock"].good is False


def test_an_attempt_to_remove_proves_the_lock(locked: Callable[..., S3Store]) -> None:
    found = by_name(locked(), try_delete=True)
    assert found["lock"].good and found["checksums"].good and found["conditional writes"].good
    assert found["removal"].good and "refuses to remove a locked object" in found["removal"].found
    assert found["bypass"].good is None and "may lift the lock" in found["bypass"].found
    found = by_name(locked("compliance"), try_delete=True)
    assert found["removal"].good and "bypass" not in found


def test_a_lock_that_is_not_kept_is_found(locked: Callable[..., S3Store], monkeypatch: Any) -> None:
    """A server that accepts locks and keeps none: here no lock is sent."""
    monkeypatch.setattr("scriptorium.stores.objects.s3.care._locked_as", lambda *_: {})
    found = by_name(locked(), try_delete=True)["removal"]
    assert found.good is False and "a locked object was removed" in found.found


def test_a_store_without_lock_can_be_emptied(server: S3Server) -> None:
    store = S3Store(**s3_place(server))
    found = by_name(store, try_delete=True)
    assert found["removal"].good is None and "can be removed" in found["removal"].found
    assert names(store.objects) == [] and [one.good for one in found.values() if one.good is False] == []


def test_a_bucket_is_made_as_the_settings_ask_for(server: S3Server) -> None:
    settings = s3_place(server) | {"lock": {"mode": "governance", "days": 1}}
    store = S3Store(**(settings | {"bucket": "made-for-locks"}))
    assert "was made, with Object Lock" in store.initialize()
    assert "is there" in store.initialize()
    assert by_name(store)["lock"].good


def test_the_error_of_a_key_that_may_not_write_names_the_permission(server: S3Server) -> None:
    found = list(examine(S3Store(**(s3_place(server) | {"profile": "reader"}))))
    assert found[0].what == "answers" and found[0].good
    assert found[-1].good is False and "denies" in found[-1].found and "permissions" in found[-1].hint


def test_a_bucket_that_locks_everything_is_examined_and_used(server: S3Server, tmp_path: Path) -> None:
    name = server.bucket("locks-by-default", locked=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    server.client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    store = S3Store(**(s3_place(server) | {"bucket": name}))
    assert "trouble" not in by_name(store, try_delete=True)
    (package,) = prepared(folder_of_everything(tmp_path / "data"), store).packages.values()
    key = store.put(package).key
    store.annotate(key, Annotations())
    assert store.locked(key) is not None
    with pytest.raises(Protected):
        store.remove(key)
    assert store.verify(key).sound and store.sweep(datetime.now(UTC) + LATER) == ()


def test_a_backup_whose_archive_alone_is_held_stays_whole(locked: Callable[..., S3Store], server: S3Server) -> None:
    store = locked(days=0)
    store.objects.put_bytes(f"{KEY}.json", b"{}")
    store.objects.put_bytes(KEY, b"archive")
    server.client.put_object_legal_hold(Bucket=store.bucket, Key=store.key(KEY), LegalHold={"Status": "ON"})
    assert str(store.locked(KEY)) == "until its legal hold is lifted"
    with pytest.raises(Protected, match="legal hold"):
        store.remove(KEY)
    assert names(store.objects) == [KEY, f"{KEY}.json"]


def test_annotations_that_are_locked_longer_keep_nothing(locked: Callable[..., S3Store]) -> None:
    store = locked(days=0)
    store.objects.put_bytes(KEY, b"archive")
    store.objects.put_bytes(f"{KEY}.json", b"{}")
    putting(store, 60).put_bytes(annotations_key(KEY), b"{}")
    store.remove(KEY)
    assert names(store.objects) == [annotations_key(KEY)]


def test_an_archive_whose_manifest_is_only_hidden_is_kept_and_named(
    locked: Callable[..., S3Store], server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody removed the manifest by S3: without the marker the backup is there again."""
    store = locked(days=0)
    store.objects.put_bytes(KEY, b"archive")
    store.objects.put_bytes(f"{KEY}.json", b"{}")
    server.client.delete_object(Bucket=store.bucket, Key=store.key(f"{KEY}.json"))
    assert store.sweep(datetime.now(UTC) + LATER) == () and names(store.objects) == [KEY]
    assert f"{KEY} stays" in caplog.text
