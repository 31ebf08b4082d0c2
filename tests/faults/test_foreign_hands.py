"""A library that belongs to an unprivileged user, who replaces folders by links while root works in it."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scriptorium.catalog import Catalog

SOMEBODY = 4711
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose to other users")
# As that user: folders become links to what is root's, and folders again.
_SWAPPING = """
import os, random, sys
home, canary, seed = sys.argv[1:]
os.setgroups([]); os.setgid(4711); os.setuid(4711)
dice = random.Random(seed)
print("on", flush=True)
while True:
    for folder in dice.sample([home, os.path.join(home, "data"), os.path.join(home, "data", "covers")], 3):
        names = [name for name in os.listdir(folder) if not name.endswith(".away")] if os.path.isdir(folder) else []
        for name in names:
            path = os.path.join(folder, name)
            try:
                os.rename(path, path + ".away")
                os.symlink(canary, path)
                for _ in range(dice.randrange(2000)):
                    pass
                os.unlink(path)
                os.rename(path + ".away", path)
            except OSError:
                pass
"""


def state_of(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path)] = (info.st_mode, info.st_uid, info.st_gid, content)
    return found


def given_away(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)


@pytest.fixture
def canary(rig: Any) -> Path:
    folder = Path(rig.place.folder) / "root"
    for name in ("covers", "uploads", "incoming/content", "former"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.jpg").write_bytes(b"of root alone")
    folder.chmod(0o711)
    given_away(rig.place.home)
    return folder


def wait_for(file: Path) -> None:
    until = time.monotonic() + 100
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert file.exists()


@pytest.mark.parametrize("point", ["restore.unpacked", "renames.planned"])
def test_a_folder_that_its_owner_swaps_for_a_link_during_a_restore(rig: Any, canary: Path, point: str) -> None:
    covers, gate, before = rig.place.home / "data" / "covers", Path(rig.place.folder) / "gate", state_of(canary)
    data = covers.parent
    with rig.started("restore", {point: f"wait:{gate}"}) as child:
        wait_for(Path(f"{gate}.here"))
        data.rename(data.with_name("data.away"))
        data.symlink_to(canary)
        os.chown(data, SOMEBODY, SOMEBODY, follow_symlinks=False)
        gate.touch()
        ended = rig.heard(child)
    assert ended.status != 0 and "of root alone" not in ended.stderr
    assert state_of(canary) == before
    data.unlink()
    data.with_name("data.away").rename(data)
    rig.again("backup")  # rolls back what an interrupted restore left
    assert rig.living == rig.old


@pytest.mark.slow
def test_folders_that_their_owner_swaps_at_random(rig: Any, canary: Path) -> None:
    """Some seconds of backups and restores while a process of that user works against them."""
    home, seed = rig.place.home, str(random.randrange(10**6))
    (canary / "covers" / "a.jpg").chmod(0o600)
    before = state_of(canary)
    kept = Path(rig.place.folder) / "kept"
    subprocess.run(["cp", "-a", home, kept], check=True)
    argv = [sys.executable, "-c", _SWAPPING, home, canary, seed]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as swapping:
        try:
            assert swapping.stdout is not None and swapping.stdout.readline() == b"on\n"
            until = time.monotonic() + 8
            while time.monotonic() < until:
                for operation in ("restore", "undo", "backup"):
                    ended = rig.run(operation, {})
                    assert "of root alone" not in ended.stdout + ended.stderr, seed
        finally:
            swapping.kill()
    assert state_of(canary) == before, seed
    catalog, secret = Catalog(rig.settings), hashlib.sha256(b"of root alone").hexdigest()
    for backup in catalog.backups(records=False):
        entries = catalog.manifest(backup.copies[0]).files.entries
        assert entries and secret not in {entry.sha256 for entry in entries}, (backup.id, seed)
    subprocess.run(["rm", "-rf", home], check=True)
    kept.rename(home)
    for journal in (rig.settings.workspace_folder / "restores").glob("*"):
        journal.unlink()
