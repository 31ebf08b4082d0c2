"""A machine without settings: a store's address and its key bring the library back, for each kind of store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from age_keys import new_key
from restic_repository import PASSWORD, make_repository
from s3_server import s3_server

from scriptorium.operations.backup import backup
from scriptorium.requests import BackupRequest
from scriptorium.settings import load

PROGRAM = Path(sys.executable).with_name("scriptorium")
FILES = {"a.txt": "one", "sub/b.txt": "two"}
CANARY = "canary-of-a-password"


@dataclass(frozen=True)
class Left:
    """What is left: the address, the options with the key, and variables of the environment."""

    url: str
    options: Sequence[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Left]]:
    """One library, backed up into a store of each kind; then everything else is gone."""
    folder = tmp_path_factory.mktemp("gone")
    kept = tmp_path_factory.mktemp("kept")
    for name, text in FILES.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_text(text)
    recipient = new_key(kept / "key.txt")
    (kept / "vault.key").write_text(PASSWORD + "\n")
    server = s3_server()
    bucket = "left-alone"
    make_repository(kept / "vault")
    (folder / "scriptorium.toml").write_text(
        f"""
[libraries.lib]
sources = [{{ name = "data", kind = "files", path = "data" }}]
[stores.local]
path = "{kept}/archives"
[stores.local.age]
recipients = ["{recipient}"]
[stores.s3]
kind = "s3"
bucket = "{bucket}"
prefix = "home/"
endpoint_url = "{server.url}"
credentials_file = "{server.credentials}"
[stores.restic]
kind = "restic"
repository = "{kept}/vault"
password_file = "{kept}/vault.key"
[stores.rsync]
kind = "rsync"
path = "{kept}/trees"
"""
    )
    settings = load(folder / "scriptorium.toml", {})
    settings.stores["s3"].initialize()  # type: ignore[attr-defined]
    result = backup(settings, BackupRequest(name="the last one"))
    assert not result.failed, result.failed
    shutil.rmtree(folder)
    credentials = {"AWS_SHARED_CREDENTIALS_FILE": str(server.credentials)}
    yield {
        "local": Left(f"file://{kept}/archives", ["--identity", str(kept / "key.txt")], {}),
        "s3": Left(f"s3://{bucket}/home?endpoint_url={server.url}", [], credentials),
        "restic": Left(f"restic:{kept}/vault", ["--password-file", str(kept / "vault.key")], {}),
        "rsync": Left(f"rsync:{kept}/trees", [], {}),
    }


@pytest.fixture
def run(tmp_path: Path, server: str) -> Callable[..., Answer]:
    """Call ``scriptorium`` in an empty home, in an empty folder."""
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)

    def call(left: Left, *words: str | Path) -> Answer:
        foreign = ("PREFECT_", "SCRIPTORIUM", "XDG_", "AWS_", "RESTIC_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        env |= {"HOME": str(home), "PREFECT_API_URL": server, "COLUMNS": "200", **left.environment}
        done = subprocess.run(
            [PROGRAM, *words], env=env, cwd=home / "work", capture_output=True, text=True, timeout=400
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.mark.parametrize("kind", ["local", "s3", "restic", "rsync"])
def test_the_address_and_the_key_are_enough(
    stores: dict[str, Left], run: Callable[..., Answer], tmp_path: Path, kind: str
) -> None:
    left = stores[kind]
    file = tmp_path / "new" / "scriptorium.toml"
    file.parent.mkdir()
    found = run(left, "catalog", "rebuild", "--store", left.url, *left.options, "--write-settings", file, "--json")
    assert found.code == 0, found.err
    (library,) = found.document["libraries"]
    assert (library["name"], library["backups"], library["proven"]) == ("lib", 1, 0)
    assert library["parts"] == [{"source": "data", "kind": "files", "path": "data"}]
    assert bool(library["recipients"]) == (kind == "local")
    restored = run(left, "restore", "latest", "--store", left.url, *left.options, "--restore-path", tmp_path / "back")
    assert restored.code == 0, restored.err
    assert {name: (tmp_path / "back/data" / name).read_text() for name in FILES} == FILES
    tables = tomllib.loads(file.read_text())
    assert list(tables["stores"]) == [kind] and list(tables["libraries"]) == ["lib"]
    if kind != "local":  # what follows is the same for all of them
        return
    again = run(left, "--config", file, "restore", "the last one", "--yes", "--no-safety")
    assert again.code == 0, again.err
    assert {name: (file.parent / "lib/data" / name).read_text() for name in FILES} == FILES


def test_it_is_listed_verified_and_drilled_by_its_address(stores: dict[str, Left], run: Callable[..., Answer]) -> None:
    left = stores["s3"]
    shown = run(left, "catalog", "rebuild", "--store", left.url)
    assert f"next: scriptorium restore latest --store '{left.url}' --restore-path DIR" in shown.out, shown.out
    assert "the last one" in run(left, "list", "--store", left.url).out
    assert "the last one" in run(left, "show", "latest", "--store", left.url).out
    checked = run(left, "verify", "--all", "--store", left.url)
    assert checked.code == 0 and "sound" in checked.out, checked.err
    drilled = run(left, "drill", "latest", "--from", left.url)
    assert drilled.code == 0, drilled.err
    assert run(left, "catalog", "rebuild", "--store", left.url, "--json").document["libraries"][0]["proven"] == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["catalog", "rebuild", "--store", f"restic:rest:http://me:{CANARY}@h/"], 2, "a password is in the address"),
        (["catalog", "rebuild", "--store", "/nowhere/at/all"], 5, "no backup is in this store"),
        (["restore", "latest", "--store", "/nowhere/at/all"], 2, "--write-settings"),
    ],
)
def test_what_is_refused(run: Callable[..., Answer], words: list[str], code: int, message: str) -> None:
    answer = run(Left("", [], {}), *words)
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert message in answer.err and CANARY not in answer.err
    assert not Path("/nowhere").exists(), "looking makes no store"
