"""The settings and commands of docs/stores.md for a bucket, as they are in the document, on a real server."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from s3_server import S3Server, s3_server

from scriptorium.operations.backup import backup
from scriptorium.operations.prune import prune
from scriptorium.operations.restore import restore
from scriptorium.operations.verify import verify
from scriptorium.requests import BackupRequest, PruneRequest, RestoreRequest, VerifyRequest
from scriptorium.retention import Policy
from scriptorium.settings import Settings, load
from scriptorium.stores.objects.s3 import S3Store

DOCUMENT = (Path(__file__).parents[2] / "docs" / "stores.md").read_text("utf-8")
SECTION = DOCUMENT[DOCUMENT.index("## A bucket: `s3`") : DOCUMENT.index("## Looking after the stores")]
NEXT = DOCUMENT[DOCUMENT.index("## Looking after the stores") :].split("\n## ", 2)[0]
COMMANDS = re.findall(r"^\$ scriptorium (stores.*)$", SECTION + NEXT, re.MULTILINE)


@dataclass(frozen=True)
class Scene:
    """A library of files, with the document's own settings for its stores."""

    folder: Path
    server: S3Server

    @property
    def file(self) -> Path:
        return self.folder / "scriptorium.toml"

    @property
    def settings(self) -> Settings:
        return load(self.file, {})

    @property
    def store(self) -> S3Store:
        found = self.settings.store("offsite")
        assert isinstance(found, S3Store)
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("scriptorium")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCRIPTORIUM", "AWS_"))}
        secrets = {"AWS_SHARED_CREDENTIALS_FILE": str(self.server.credentials)}
        return subprocess.run(
            [program, "--config", self.file, *words],
            env={**kept, **secrets},
            capture_output=True,
            text=True,
            timeout=60,
        )


def blocks() -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(tmp_path, s3_server())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").write_bytes(os.urandom(200_000))
    (tmp_path / "data" / "notes.txt").write_text("notes")
    words = "".join(blocks()).replace("https://s3.example", scene.server.url)
    words = words.replace("library-backups", f"backups-{secrets.token_hex(6)}")
    library = '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n'
    scene.file.write_text(f'workspace = "work"\n{library}{words}')
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(scene.server.credentials))
    return scene


def test_the_blocks_are_settings_and_the_commands_are_there() -> None:
    assert len(blocks()) == 2 and all(tomllib.loads(block)["stores"]["offsite"] for block in blocks())
    assert len(COMMANDS) >= 5 and any("--try-delete" in one for one in COMMANDS)


def test_a_backup_goes_into_the_bucket_and_is_restored_and_stays_as_long_as_it_is_locked(
    scene: Scene, tmp_path: Path
) -> None:
    refused = scene.run("stores", "check", "offsite")
    assert refused.returncode == 1 and "there is no bucket" in refused.stderr and "stores init" in refused.stderr
    scene.store.initialize()
    old = backup(scene.settings, BackupRequest(), now=datetime.now(UTC) - timedelta(days=9)).backup
    new = backup(scene.settings, BackupRequest()).backup
    assert verify(scene.settings, VerifyRequest()).damaged == ()
    restore(scene.settings, RestoreRequest(reference=new.id, path=tmp_path / "back"))
    assert (tmp_path / "back" / "data" / "a.jpg").read_bytes() == (tmp_path / "data" / "a.jpg").read_bytes()
    (attempt,) = [command for command in COMMANDS if "--try-delete" in command]
    answer = scene.run(*shlex.split(attempt))
    assert answer.returncode == 0 and "refuses to remove a locked object" in answer.stdout, answer.stderr
    pruned = prune(scene.settings, PruneRequest(policy=Policy(last=1)))
    kept = {one.candidate.id: one for one in pruned.decisions}[old.id]
    assert pruned.removed == () and kept.keep and "offsite locks it until" in kept.reasons[0]


@pytest.mark.slow
def test_every_command_of_the_document_is_run(scene: Scene) -> None:
    scene.store.initialize()
    taken = backup(scene.settings, BackupRequest()).backup
    shown = scene.run("show", taken.id)
    assert "until" in shown.stdout and "(governance)" in shown.stdout
    for command in COMMANDS:
        answer = scene.run(*shlex.split(command))
        assert answer.returncode == 0, f"{command}: {answer.stderr}"


def test_an_upload_that_a_dead_run_left_goes_with_the_next(scene: Scene) -> None:
    scene.store.initialize()
    taken = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    scene.store.objects.begin_upload("lib/full_20260102_030405.tar.gz", {}, None)
    scene.store.objects.begin_upload("lib/full_20260102_030406.tar.gz", {}, None)
    assert len(scene.store.discard_unfinished("lib", taken)) == 1
    now = datetime.now(UTC)
    assert scene.store.sweep(now) == ()
    (swept,) = scene.store.sweep(now + timedelta(hours=25))
    assert swept.startswith("lib/.full_20260102_030406.tar.gz.")
    assert scene.store.sweep(now + timedelta(hours=25)) == ()
