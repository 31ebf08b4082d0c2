"""Copies between stores, by the command line and the flow."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from prefect_runs import artifact, last_run
from restic_repository import restic_store
from s3_server import s3_server
from store_fixtures import s3_place
from typer.testing import CliRunner

from flows.backup import backup
from scriptorium.catalog import Catalog
from scriptorium.cli import main
from scriptorium.cli.output import manner
from tasks.stores import upload


def command(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(main.app, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def two(chosen: Any, tmp_path: Path) -> Any:
    """The library of ``chosen``, with a second store."""
    chosen.config.write_text(f'{chosen.config.read_text()}\n[stores.usb]\nkind = "local"\npath = "{tmp_path}/usb"\n')
    return chosen


def test_a_backup_is_copied_by_hand_and_then_what_is_missing(two: Any, tmp_path: Path) -> None:
    first, second = backup(type="config", to=["local"]), backup(type="config", to=["local"])
    planned = command("copy", first.id, "--to", "usb", "--dry-run")
    assert planned["dry_run"] and planned["planned"][0]["from"] == "local" and planned["copied"] == []
    done = command("copy", first.id)
    assert [(one["id"], one["store"], one["status"]) for one in done["copied"]] == [(first.id, "usb", "verified")]
    assert "Copies between stores" in artifact("copy-all") and first.id in artifact("copy-all")
    assert command("copy", first.id, "--to", "usb")["present"] == [{"id": first.id, "store": "usb"}]
    done = command("copy", "--missing")
    assert [one["id"] for one in done["copied"]] == [second.id]
    assert command("copy", "--missing") == {
        "dry_run": False,
        "planned": [],
        "copied": [],
        "present": [],
        "failed": {},
    }
    assert all(len(one.copies) == 2 for one in Catalog(two.settings).backups())


def refused(code: int, *words: str) -> str:
    done = CliRunner().invoke(main.app, words)
    assert done.exit_code == code, done.output
    return str(done.output)


def test_what_cannot_be_copied_is_an_exit_code(two: Any, tmp_path: Path) -> None:
    taken, _ = backup(type="config", to=["local"]), backup(type="config", to=["local"])
    assert "takes no ID" in refused(2, "copy", taken.id, "--missing")
    refused(5, "copy", "ffff", "--to", "usb")
    archive = two.backups / taken.copies[0].key
    archive.write_bytes(archive.read_bytes()[:-20])
    assert "Use another copy of this backup" in refused(3, "copy", taken.id, "--to", "usb")
    (tmp_path / "usb").write_text("no folder")
    assert "usb" in refused(1, "copy", "--missing")


def test_a_store_that_was_away_gets_what_it_lacks_by_itself(
    two: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "retry_delay_seconds", [0.0, 0.0])
    for name in ("quiet", "json", "wrote_json"):  # of earlier calls in this process
        monkeypatch.setattr(manner, name, False)
    (tmp_path / "usb").write_text("no folder")
    done = CliRunner().invoke(main.app, ["create", "--type", "config"])
    assert done.exit_code == 8 and "no copy in usb: the store does not answer" in done.stderr
    (first,) = Catalog(two.settings).backups()
    state = last_run("backup")[0].state
    assert (state.type.value, state.name) == ("COMPLETED", "Degraded") and "no copy in usb" in str(state.message)
    assert "no copy in usb" in CliRunner().invoke(main.app, ["show", first.id]).stdout
    (tmp_path / "usb").unlink()
    done = CliRunner().invoke(main.app, ["create", "--type", "config"])
    assert done.exit_code == 0
    assert [(str(one.status), len(one.copies)) for one in Catalog(two.settings).backups()] == [("verified", 2)] * 2
    assert f"copied to usb, too**: the backup {first.id}" in artifact("backup-bibliotheca")


DOCUMENT = (Path(__file__).parents[2] / "docs" / "stores.md").read_text("utf-8")
CHAPTER = DOCUMENT[DOCUMENT.index("## More than one copy") :].split("\n## ", 2)[0]


@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
def test_the_chapter_of_the_document(chosen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings and its commands, as they stand there."""
    vault = restic_store(tmp_path / "vault")
    place = {**s3_place(s3_server()), "kind": "s3"}
    offsite = "\n".join(f"{name} = {json.dumps(value, default=str)}" for name, value in place.items())
    settings = re.findall(r"^```toml\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL)
    chosen.config.write_text(
        f"{chosen.config.read_text()}\n[stores.offsite]\n{offsite}\n[stores.vault]\nkind = 'restic'\n"
        f"repository = '{vault.repository}'\npassword_file = '{vault.password_file}'\n{settings[0]}"
    )
    taken = backup(type="config", tier="daily", to=["vault"])
    commands = re.findall(r"^\$ scriptorium (copy .*)$", CHAPTER, re.MULTILINE)
    assert len(commands) == 4
    for name in ("quiet", "json", "wrote_json"):  # of earlier calls in this process
        monkeypatch.setattr(manner, name, False)
    results = [refused(0, *shlex.split(one.replace("3f2a", taken.id))) for one in commands]
    assert "1 copy made" in results[0] and "has a good copy in offsite already" in results[1]
    assert "dry run: 1 copy to make" in results[2] and "1 copy made" in results[3]
    assert {copy.store for copy in Catalog(chosen.settings).find(taken.id).copies} == {"local", "vault", "offsite"}
