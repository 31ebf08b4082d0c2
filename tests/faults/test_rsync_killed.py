"""A run with folders of rsync as its store: killed at each step, its disk full, its host gone. Nothing that was
complete is lost, the next run tidies up and links to what had arrived."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import driver
import pytest
from prepared_backup import prepared
from ssh_server import local_store, ssh_server

from scriptorium.catalog import Catalog
from scriptorium.errors import NoSpace, StoreUnavailable
from scriptorium.failpoints import VARIABLE
from scriptorium.settings import Settings, load
from scriptorium.stores import RsyncStore

BACKUP = [
    "rsync.before-contents",
    "rsync.after-contents",
    "rsync.before-manifest",
    "rsync.before-rename",
    "rsync.after-rename",
    "take.before-annotations",
    "take.stored",
]
CLEANUP = ["prune.before-backup", "rsync.before-hidden", "rsync.after-hidden", "rsync.after-removal"]
IN_SUITE = {"rsync.after-contents", "rsync.after-hidden"}
_LATER = timedelta(days=2)


@dataclass(frozen=True)
class Folders:
    """A library with one file of noise, and two backups of it."""

    file: Path
    data: Path

    @property
    def settings(self) -> Settings:
        return load(self.file, {})

    @property
    def store(self) -> RsyncStore:
        found = self.settings.store("disk")
        assert isinstance(found, RsyncStore)
        return found

    @property
    def library(self) -> Path:
        return self.file.parent / "store" / "lib"

    def ended_at(self, operation: str, point: str, signal: str) -> int:
        env = {**os.environ, VARIABLE: json.dumps({point: signal})}
        line = [sys.executable, driver.__file__, operation, str(self.file)]
        return subprocess.run(line, env=env, capture_output=True, timeout=120).returncode

    def ids(self) -> set[str]:
        return {backup.id for backup in Catalog(self.settings).backups(records=False)}

    def hidden(self) -> list[Path]:
        return [path for path in self.library.iterdir() if path.name.startswith(".")]


def settings_text(**store: object) -> str:
    library = 'workspace = "work"\n[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n'
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"kind": "rsync", **store}.items()]
    return f"{library}[stores.disk]\n" + "\n".join(lines)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Folders]:
    """At the end of every row, all copies pass ``verify``, and the newest backup from before the row exists."""
    local_store(tmp_path)  # is rsync here?
    data = tmp_path / "data"
    data.mkdir()
    (data / "noise").write_bytes(os.urandom(200_000))
    file = tmp_path / "scriptorium.toml"
    file.write_text(settings_text(path="store"))
    folders = Folders(file, data)
    for days in (2, 1):
        driver.backup(folders.settings, now=datetime.now(UTC) - timedelta(days=days))
    newest = Catalog(folders.settings).backups(records=False)[0].id
    (data / "new").write_bytes(os.urandom(100_000))
    yield folders
    assert newest in folders.ids() and driver.verify(folders.settings) == ""


def rows(points: list[str]) -> list[object]:
    return [pytest.param(one, id=one, marks=() if one in IN_SUITE else pytest.mark.slow) for one in points]


@pytest.mark.parametrize("point", rows(BACKUP))
def test_a_backup_by_rsync_that_was_killed_is_tidied_by_the_next(rig: Folders, point: str) -> None:
    before = rig.ids()
    assert rig.ended_at("backup", point, "KILL") == -signal.SIGKILL
    assert rig.ids() >= before
    arrived = [path.lstat().st_ino for path in rig.library.glob(".*/contents/data/new")]
    taken = driver.backup(rig.settings)
    assert rig.ids() >= {*before, taken} and rig.hidden() == []
    assert rig.store.sweep(datetime.now(UTC) + _LATER) == ()
    (newest,) = (copy.key for copy in Catalog(rig.settings).find(taken).copies)
    assert not arrived or (rig.library.parent / newest / "contents/data/new").lstat().st_ino == arrived[0]


@pytest.mark.parametrize("point", rows(CLEANUP))
def test_a_cleanup_of_folders_that_was_killed_is_finished_by_the_next(rig: Folders, point: str) -> None:
    newest = Catalog(rig.settings).backups(records=False)[0].id
    assert rig.ended_at("cleanup", point, "KILL") == -signal.SIGKILL
    assert newest in rig.ids()
    driver.cleanup(rig.settings)
    rig.store.sweep(datetime.now(UTC) + _LATER)
    assert rig.ids() == {newest} and len(list(rig.library.iterdir())) == 1


def test_a_disk_that_becomes_full_while_rsync_writes(rig: Folders, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "scriptorium-test", str(small)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(words, check=False).returncode:
        pytest.skip("no filesystem of our own can be mounted")
    try:
        (rig.library.parent).rename(tmp_path / "elsewhere")
        shutil.copytree(tmp_path / "elsewhere", small / "store", symlinks=True)
        (tmp_path / "store").symlink_to(small / "store")
        before = rig.ids()
        (rig.data / "large").write_bytes(os.urandom(5 << 20))
        store = rig.store.model_copy(update={"path": small / "store"})
        (package,) = prepared(rig.data, store).packages.values()
        with pytest.raises(NoSpace, match="the store is full"):
            store.put(package)
        assert rig.ids() == before and rig.hidden() == [], "what filled the disk is removed"
        (rig.data / "large").unlink()
        (package,) = prepared(rig.data, store).packages.values()
        assert store.verify(store.put(package).key).sound and driver.verify(rig.settings) == ""
    finally:
        (tmp_path / "store").unlink(missing_ok=True)
        subprocess.run(["umount", "-l", str(small)], check=True)
        if (tmp_path / "elsewhere").exists():
            (tmp_path / "elsewhere").rename(tmp_path / "store")


def test_a_host_that_is_gone_while_rsync_sends(rig: Folders, tmp_path: Path) -> None:
    """The connection is cut in the middle of a file; the next try links to what had arrived."""
    server = ssh_server()
    target = f"{server.host}:{tmp_path / 'store'}"
    rig.file.write_text(settings_text(target=target, ssh=list(server.words()), bwlimit="4m"))
    (rig.data / "zz large").write_bytes(os.urandom(8 << 20))
    failed = list[BaseException]()

    def run() -> None:
        try:
            driver.backup(rig.settings)
        except StoreUnavailable as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + 60
    while not (arrived := list(rig.library.glob(".*/contents/data/new"))) and time.monotonic() < until:
        time.sleep(0.02)
    inode = arrived[0].lstat().st_ino
    server.cut()
    thread.join(60)
    assert len(failed) == 1 and "the host of the store does not answer" in str(failed[0])
    rig.file.write_text(settings_text(path="store"))
    taken = driver.backup(rig.settings)
    (newest,) = (copy.key for copy in Catalog(rig.settings).find(taken).copies)
    assert (rig.library.parent / newest / "contents/data/new").lstat().st_ino == inode
