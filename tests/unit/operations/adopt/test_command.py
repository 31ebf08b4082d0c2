"""``scriptorium catalog adopt`` as a user has it: no server is needed, one line for each archive, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from scriptorium.cli import main, output
from scriptorium.settings import CONFIG_VARIABLE

KIND = "simple_database_backup_with_images_and_settings"
Adopt = Callable[..., Result]


@pytest.fixture
def adopt(app: Any, monkeypatch: pytest.MonkeyPatch) -> Adopt:
    monkeypatch.setenv(CONFIG_VARIABLE, str(app.place.config))
    monkeypatch.chdir(app.place.folder)

    def call(*words: str | Path) -> Result:
        monkeypatch.setattr(output.manner, "json", False)
        monkeypatch.setattr(output.manner, "wrote_json", False)
        return CliRunner().invoke(main.app, ["catalog", "adopt", *map(str, words)])

    return call


def test_no_server_is_needed(app: Any) -> None:
    """As a program of its own, with a Prefect API that does not answer."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SCRIPTORIUM", "PREFECT"))}
    away = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(app.place.folder / "none")}
    program = "from scriptorium.cli.main import main; main()"
    argv = [sys.executable, "-c", program, "catalog", "adopt", str(config_zip(app, "x.zip", b"A=1"))]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**clean, **away}, cwd=app.place.folder, timeout=120
    )
    assert done.returncode == 0 and "x.zip: adopted as" in done.stdout, done.stderr
    assert not (app.place.folder / "none").exists()


def config_zip(app: Any, name: str, content: bytes, **fields: object) -> Path:
    path: Path = app.old.zip(name, {"config/.env": content}, app.old.metadata(KIND, **fields))
    return path


def test_one_archive(app: Any, adopt: Adopt) -> None:
    """It prints the new backup, how far it can be trusted, and that the next cleanup would remove it."""
    recent = config_zip(app, "recent.zip", b"A=2", created_at="2026-01-01T00:00:00")
    assert adopt(recent).exit_code == 0
    done = adopt(config_zip(app, "old.zip", b"A=1"))
    assert done.exit_code == 0, done.stderr
    assert "old.zip: adopted as" in done.stdout and "config, taken 2025-07-14" in done.stdout
    assert "warning: it contains no database" in done.stdout and "time zone" in done.stdout
    assert "the next cleanup would remove" in done.stdout and "scriptorium pin" in done.stdout
    again = adopt(app.old.folder / "old.zip")
    assert again.exit_code == 2 and "already adopted as" in again.stderr and "scriptorium show" in again.stderr


def test_a_folder(app: Any, adopt: Adopt) -> None:
    config_zip(app, "a.zip", b"A=1")
    app.old.zip("b.zip", {"../x": b"x"}, None)
    config_zip(app, "c.zip", b"A=3")
    done = adopt(app.old.folder, "--pin", "--json")
    assert done.exit_code == 1 and "1 of 3 archives could not be adopted: b.zip" in done.stderr
    document = json.loads(done.stdout)
    assert document["failed"] == 1 and [Path(one["file"]).name for one in document["files"]] == [
        "a.zip",
        "b.zip",
        "c.zip",
    ]
    assert document["files"][0]["backup"]["pinned"] and not document["files"][0]["leaving"]
    assert "outside" in document["files"][1]["error"] and document["files"][2]["warnings"]
    again = adopt(app.old.folder)
    assert again.exit_code == 1 and again.stdout.count("already adopted as") == 2
    (app.old.folder / "b.zip").unlink()
    assert adopt(app.old.folder).exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nowhere.zip",), 5, "no such file"),
        (("scriptorium.toml",), 2, "no backup that can be adopted"),
    ],
)
def test_each_error_is_reported(adopt: Adopt, words: tuple[str, ...], code: int, message: str) -> None:
    answer = adopt(*words)
    assert answer.exit_code == code and message in answer.stderr and "Traceback" not in answer.stderr


def test_a_folder_without_archives(app: Any, adopt: Adopt) -> None:
    answer = adopt(app.place.home)
    assert answer.exit_code == 0 and "no archive was found" in answer.stdout
