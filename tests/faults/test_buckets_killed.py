"""A run with a bucket as its store, killed at each step: nothing that was complete is lost, the next run tidies up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import driver
import pytest
from s3_server import S3Server, s3_server
from store_fixtures import s3_place

from scriptorium.catalog import Catalog
from scriptorium.failpoints import VARIABLE
from scriptorium.settings import Settings, load
from scriptorium.stores.objects.s3 import S3Store
from scriptorium.stores.objects.s3.versions import versions_of

BACKUP = [
    "upload.before-archive",
    "bucket.part-sent#1",
    "bucket.part-sent#3",
    "bucket.before-complete",
    "bucket.after-complete",
    "upload.before-manifest",
    "upload.after-manifest",
    "take.before-annotations",
    "take.stored",
]
CLEANUP = ["prune.before-backup", "remove.before-object#1", "bucket.after-delete#1", "bucket.after-delete#2"]
CLEANUP += ["bucket.after-delete#3", "remove.after-objects"]
IN_SUITE = {"bucket.part-sent#1", "upload.before-manifest", "bucket.after-delete#1"}
_SMALLEST_PART = 5


@dataclass(frozen=True)
class Bucket:
    """A library with one file of noise, and a backup of it, in a bucket of the server alone."""

    file: Path
    server: S3Server

    @property
    def settings(self) -> Settings:
        return load(self.file, {})

    @property
    def store(self) -> S3Store:
        found = self.settings.store("offsite")
        assert isinstance(found, S3Store)
        return found

    def ended_at(self, operation: str, point: str, signal: str) -> int:
        env = {**os.environ, VARIABLE: json.dumps({point: signal})}
        line = [sys.executable, driver.__file__, operation, str(self.file)]
        return subprocess.run(line, env=env, capture_output=True, timeout=120).returncode

    def ids(self) -> set[str]:
        return {backup.id for backup in Catalog(self.settings).backups(records=False)}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Bucket]:
    """At the end of every row, all copies pass ``verify``, and the newest backup from before the row exists."""
    server = s3_server()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "noise").write_bytes(os.urandom(11 << 20))
    words = {**s3_place(server), "kind": "s3", "part_size": _SMALLEST_PART, "credentials_file": str(server.credentials)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in words.items()]
    library = '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n[stores.offsite]\n'
    file = tmp_path / "scriptorium.toml"
    file.write_text('workspace = "work"\ncompression = "none"\n' + library + "\n".join(lines))
    bucket = Bucket(file, server)
    for days in (2, 1):
        driver.backup(bucket.settings, now=datetime.now(UTC) - timedelta(days=days), compression="none")
    newest = Catalog(bucket.settings).backups(records=False)[0].id
    yield bucket
    assert newest in bucket.ids() and driver.verify(bucket.settings) == ""


def rows(points: list[str]) -> list[object]:
    return [pytest.param(one, id=one, marks=() if one in IN_SUITE else pytest.mark.slow) for one in points]


@pytest.mark.parametrize("point", rows(BACKUP))
def test_a_backup_that_was_killed_leaves_nothing_that_the_next_does_not_tidy(rig: Bucket, point: str) -> None:
    before = rig.ids()
    assert rig.ended_at("backup", point, "KILL") == -signal.SIGKILL
    assert rig.ids() >= before
    taken = driver.backup(rig.settings, compression="none")
    assert rig.ids() >= {*before, taken}
    assert list(rig.store.objects.leftovers()) == []
    assert rig.store.sweep(datetime.now(UTC) + timedelta(days=2)) == ()


@pytest.mark.parametrize("point", rows(CLEANUP))
def test_a_cleanup_that_was_killed_is_finished_by_the_next(rig: Bucket, point: str) -> None:
    newest = Catalog(rig.settings).backups(records=False)[0].id
    assert rig.ended_at("cleanup", point, "KILL") == -signal.SIGKILL
    assert newest in rig.ids()
    driver.cleanup(rig.settings)
    rig.store.sweep(datetime.now(UTC) + timedelta(days=2))
    assert rig.ids() == {newest}
    assert len(list(rig.store.objects.list())) == 3, "archive, manifest, annotations"
    assert [one for one in versions_of(rig.store.objects) if one.marker] == []
