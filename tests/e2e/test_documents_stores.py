"""Chapters 19 and 20 of the runbook: a library out of a repository of restic, and out of a bucket."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import real_backup
import runbook
from restic_repository import restic_store
from runbook import perform
from s3_server import s3_server

from scriptorium.stores.objects.s3 import S3Store

NEWEST = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def values(place: Any) -> dict[str, str]:
    return {
        "STORE": str(place.folder / "none"),
        "LIBRARY": "bibliotheca",
        "TARGET": str(place.folder / "target"),
        "WORK": str(place.folder / "restore"),
        "OWNER": "0:0",
        "SETTINGS": str(place.config),
    }


def same(place: Any, restored: Path) -> bool:
    """Whether every file of the library is in the folder, too; the database may have been written to since."""
    covers = [path for path in (place.home / "data" / "covers").rglob("*") if path.is_file()]
    there = [restored / path.relative_to(place.home) for path in covers]
    return bool(covers) and all(
        one.read_bytes() == other.read_bytes() for one, other in zip(covers, there, strict=True)
    )


def test_19_a_repository_of_restic(place: Any, tmp_path: Path) -> None:
    if shutil.which("restic") is None:
        pytest.skip("no restic here: apt-get install restic")
    store = restic_store(place.folder / "far")
    real_backup.take(
        place.settings.model_copy(update={"stores": {"restic": store}, "workspace": place.folder / "work"}), NEWEST
    )
    env = {**runbook.shell(tmp_path), "RESTIC_CACHE_DIR": str(place.folder / "cache")}
    given = {"RESTIC_REPOSITORY": store.repository, "RESTIC_PASSWORD_FILE": str(store.password_file)}
    perform("19", values(place), place.folder, env, given)
    assert same(place, place.folder / "restore/whole")
    assert same(place, place.folder / "restore/back" / str(place.home).lstrip("/"))


def test_20_a_bucket(place: Any, tmp_path: Path) -> None:
    server = s3_server()
    store = S3Store(
        bucket="runbook", prefix="home", endpoint_url=server.url, credentials_file=server.credentials, name="far"
    )
    store.initialize()
    real_backup.take(
        place.settings.model_copy(update={"stores": {"far": store}, "workspace": place.folder / "work"}), NEWEST
    )
    given = {
        "BUCKET": "runbook/home",
        "SERVER": server.url,
        "AWS_SHARED_CREDENTIALS_FILE": str(server.credentials),
    }
    perform("20", values(place), place.folder, runbook.shell(tmp_path), given)
    assert same(place, place.folder / "restore/new")
