"""A copy from one store into another, killed at each step: nothing unfinished is listed, a second try is whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import driver
import pytest
from age_keys import new_key
from restic_repository import restic_store

from scriptorium.catalog import Catalog
from scriptorium.failpoints import VARIABLE
from scriptorium.model import Backup
from scriptorium.operations.pin import pin_copies
from scriptorium.settings import Settings, load

AS_IT_IS = ["copy.locked", "copy.before-reading", "copy.before-put", "upload.before-archive"]
AS_IT_IS += [
    "upload.before-manifest",
    "upload.after-manifest",
    "copy.stored",
    "copy.before-annotations",
    "copy.done",
    "copy.before-removal",
]
AGAIN = ["driver.bytes-moved", "copy.packed", "upload.before-manifest", "copy.before-annotations"]
REPOSITORY = ["restic.before-copy#1", "restic.before-copy#2", "restic.copied", "copy.before-annotations"]
IN_SUITE = {("local", "upload.before-manifest"), ("local", "copy.before-annotations"), ("aged", "copy.packed")}
IN_SUITE |= {("restic", "restic.before-copy#2")}
_POINTS = {"local": AS_IT_IS, "aged": AGAIN, "restic": REPOSITORY}
ROWS = [
    pytest.param(kind, point, id=f"{kind} {point}", marks=() if (kind, point) in IN_SUITE else pytest.mark.slow)
    for kind, points in _POINTS.items()
    for point in points
]


@dataclass
class Two:
    """A library with a pinned backup in ``first``, and a store ``second``."""

    file: Path
    taken: Backup

    @property
    def settings(self) -> Settings:
        return load(self.file, {})

    def run(self, **failpoints: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, VARIABLE: json.dumps(failpoints)}
        line = [sys.executable, driver.__file__, "copy", str(self.file)]
        return subprocess.run(line, env=env, capture_output=True, text=True, timeout=120)

    def copies(self) -> set[str]:
        return {copy.store for copy in Catalog(self.settings).find(self.taken.id).copies}


def _tables(kind: str, folder: Path) -> str:
    if kind == "restic":
        if shutil.which("restic") is None:
            pytest.skip("restic is not installed")
        stores = {name: restic_store(folder / name) for name in ("first", "second")}
        return "\n".join(
            f'[stores.{name}]\nkind = "restic"\nrepository = "{one.repository}"\npassword_file = "{one.password_file}"'
            for name, one in stores.items()
        )
    age = f'[stores.second.age]\nrecipients = ["{new_key(folder / "key")}"]\nidentity = "key"' if kind == "aged" else ""
    return f'[stores.first]\npath = "first"\n[stores.second]\npath = "second"\n{age}'


@pytest.fixture
def kind_of_rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Two]:
    """At the end of every row, all copies pass ``verify``, and nothing is left in the workspace."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "noise").write_bytes(os.urandom(1 << 20))
    library = '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n'
    tier = '[tiers.manual]\nto = ["first"]\n'
    file = tmp_path / "scriptorium.toml"
    file.write_text(f'workspace = "work"\n{library}{tier}{_tables(request.param, tmp_path)}\n')
    driver.backup(load(file, {}))
    two = Two(file, Catalog(load(file, {})).find("latest"))
    pin_copies(two.settings, two.taken, pinned=True)
    yield two
    assert driver.verify(two.settings) == ""
    driver.cleanup(two.settings)  # it also removes what a copy left staged that nobody made again
    assert two.taken.id in {backup.id for backup in Catalog(two.settings).backups()}
    assert not list((tmp_path / "work" / "staging").iterdir())
    assert {path.name for path in (tmp_path / "work" / "reading").iterdir()} <= {two.taken.id, "~second"}


@pytest.mark.parametrize(("kind_of_rig", "point"), ROWS, indirect=["kind_of_rig"])
def test_a_copy_that_is_killed_is_completed_by_the_next_try(kind_of_rig: Two, point: str) -> None:
    two = kind_of_rig
    assert two.run(**{point: "KILL"}).returncode == -signal.SIGKILL
    assert two.copies() in ({"first"}, {"first", "second"})
    done = two.run()
    if point not in ("copy.done", "copy.before-removal"):  # else there is nothing left to do
        assert done.returncode == 0, done.stderr
    assert two.copies() == {"first", "second"}
    found = Catalog(two.settings).find(two.taken.id)
    assert all(copy.pinned and copy.verified_at for copy in found.copies)
    assert two.settings.store("second").sweep(datetime.now(UTC) + timedelta(days=2)) == ()


@pytest.mark.parametrize("kind_of_rig", ["local"], indirect=True)
def test_a_copy_that_is_asked_to_end_leaves_nothing(kind_of_rig: Two) -> None:
    two = kind_of_rig
    assert two.run(**{"upload.before-manifest": "TERM"}).returncode == 130
    assert two.copies() == {"first"} and two.settings.store("second").usage()[0] == 0
    assert two.run().returncode == 0 and two.copies() == {"first", "second"}
