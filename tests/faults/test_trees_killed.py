"""A run with a store of trees, killed at each step: nothing that was complete is lost, and the next run tidies up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import driver
import pytest
from borg_repository import borg_store
from rclone_remote import WHEELS, rclone_store
from restic_repository import restic_store
from ssh_server import ssh_server

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.failpoints import VARIABLE
from scriptorium.settings import Settings, load
from scriptorium.stores import BackupStore

LATER = timedelta(days=2)


def restic(folder: Path) -> str:
    store = restic_store(folder / "restic")
    return f'kind = "restic"\nrepository = "{store.repository}"\npassword_file = "{store.password_file}"'


def borg(folder: Path) -> str:
    store = borg_store(folder / "borg")
    place = f'repository = "{store.repository}"\nbase = "{store.base}"\n'
    return f'kind = "borg"\n{place}password_file = "{store.password_file}"'


def rclone(folder: Path) -> str:
    store = rclone_store(folder)
    return f'kind = "rclone"\nremote = "{store.remote}"\nconfig = "{store.config}"'


def rsync_by_ssh(folder: Path) -> str:
    server = ssh_server()
    return f'kind = "rsync"\ntarget = "{server.host}:{folder}/trees"\nssh = {json.dumps(server.shared())}'


KINDS: dict[str, tuple[Callable[[Path], str], str, list[str], list[str]]] = {
    # what writes its settings, its program, the steps of a backup, those of a cleanup
    "restic": (
        restic,
        "restic",
        ["before-contents", "after-contents", "before-manifest", "after-manifest"],
        [],
    ),
    "borg": (
        borg,
        "borg",
        ["before-contents", "after-contents", "before-manifest", "after-manifest"],
        ["before-removal", "after-removal"],
    ),
    "rclone": (
        rclone,
        "rclone",
        ["before-contents", "after-contents", "before-manifest", "after-manifest"],
        ["after-manifest-removal"],
    ),
    "rsync over ssh": (rsync_by_ssh, "sshd", ["after-contents", "before-rename"], ["after-hidden"]),
}
IN_SUITE = {
    ("restic", "restic.before-manifest"),
    ("borg", "borg.before-manifest"),
    ("rclone", "rclone.before-manifest"),
}


@dataclass(frozen=True)
class Trees:
    """A library of a few files and two backups of it, in a store of trees alone."""

    file: Path

    @property
    def settings(self) -> Settings:
        return load(self.file, {})

    @property
    def store(self) -> BackupStore:
        return self.settings.store("trees")

    def ended_at(self, operation: str, point: str) -> int:
        env = {**os.environ, VARIABLE: json.dumps({point: "KILL"})}
        line = [sys.executable, driver.__file__, operation, str(self.file)]
        return subprocess.run(line, env=env, capture_output=True, timeout=120).returncode

    def ids(self) -> set[str]:
        return {backup.id for backup in Catalog(self.settings).backups(records=False)}


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trees]:
    """At the end of every row, all copies pass ``verify``, and the newest backup from before the row exists."""
    text, program, *_ = KINDS[request.param]
    if shutil.which(program, path=f"{os.environ['PATH']}:{WHEELS}:/usr/sbin") is None:
        pytest.skip(f"{program} is not installed")
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "noise").write_bytes(os.urandom(1 << 20))
    (data / "sub" / "same").write_text("the same")
    file = tmp_path / "scriptorium.toml"
    library = '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n[stores.trees]\n'
    file.write_text(f'workspace = "work"\n{library}{text(tmp_path)}\n')
    trees = Trees(file)
    for days in (2, 1):
        driver.backup(trees.settings, now=datetime.now(UTC) - timedelta(days=days))
        (data / "noise").write_bytes(os.urandom(1 << 20))
    newest = Catalog(trees.settings).backups(records=False)[0].id
    yield trees
    assert newest in trees.ids() and driver.verify(trees.settings) == ""


def rows(which: int, *more: str) -> list[object]:
    found = []
    for kind, row in KINDS.items():
        prefix = kind.split()[0]
        for point in (*(f"{prefix}.{step}" for step in row[which]), *more):
            marks = () if (kind, point) in IN_SUITE else pytest.mark.slow
            found.append(pytest.param(kind, point, id=f"{kind}, {point}", marks=marks))
    return found


@pytest.mark.parametrize(("rig", "point"), rows(2, "take.before-annotations", "take.stored"), indirect=["rig"])
def test_a_backup_that_was_killed_costs_the_next_nothing(rig: Trees, point: str) -> None:
    before = rig.ids()
    assert rig.ended_at("backup", point) == -signal.SIGKILL
    assert rig.ids() >= before
    taken = driver.backup(rig.settings)
    assert rig.ids() >= {*before, taken}
    assert rig.store.sweep(datetime.now(UTC) + LATER, dry_run=True) == ()


@pytest.mark.parametrize(("rig", "point"), rows(3, "prune.before-backup"), indirect=["rig"])
def test_a_cleanup_of_trees_that_was_killed_is_finished_by_the_next(rig: Trees, point: str) -> None:
    newest = Catalog(rig.settings).backups(records=False)[0].id
    assert rig.ended_at("cleanup", point) == -signal.SIGKILL
    assert newest in rig.ids()
    driver.cleanup(rig.settings)
    rig.store.sweep(datetime.now(UTC) + LATER)
    assert rig.ids() == {newest}
    assert rig.store.sweep(datetime.now(UTC) + LATER) == () and workspace.unreclaimed(rig.settings) == ()
