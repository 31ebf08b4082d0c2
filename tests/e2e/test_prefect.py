"""The command and Prefect's API: an embedded server, and one that cannot be reached."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[2]
Home = Callable[[Path], Path]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCRIPTORIUM"))}
    return {
        **kept,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "COLUMNS": "240",
        **more,
    }


def test_without_a_server_the_embedded_one_keeps_the_history_and_nothing_is_left_running(
    place: Any, tmp_path: Path, prefect_home: Home, children_of: Callable[[str], list[str]]
) -> None:
    """Started by a command when no server is configured. When the command ends, the embedded server and every child are
    gone, and the server has printed nothing. The run with all its tasks is in the history later, with the same
    PREFECT_HOME."""
    prefect_home(tmp_path / "prefect")
    env = environment(tmp_path, SCRIPTORIUM_TEST_MARK=str(tmp_path))
    done = subprocess.run(
        [BIN / "scriptorium", "create", "--json"],
        env=env,
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and json.loads(done.stdout)["status"] == "verified"
    assert children_of(str(tmp_path)) == []

    with contextlib.closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as kept:
        runs = kept.execute("SELECT name, state_type FROM flow_run").fetchall()
        tasks = kept.execute("SELECT name, state_type FROM task_run ORDER BY created").fetchall()
    assert runs == [("manual full backup of bibliotheca", "COMPLETED")]
    assert [name.split()[0] for name, _ in tasks] == ["check", *["snapshot"] * 3, "archive", "verify", "upload"]
    assert {state for _, state in tasks} == {"COMPLETED"}


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, 6, "Prefect's API does not answer: http://127.0.0.1:9/api"),
        ({"PREFECT_HOME": "scriptorium.toml"}, 1, "embedded server did not start"),
        ({"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}, 6, "no Prefect server is configured"),
    ],
    ids=["nobody there", "no folder", "forbidden"],
)
def test_an_api_that_cannot_be_reached_is_reported(
    place: Any, tmp_path: Path, given: dict[str, str], code: int, message: str
) -> None:
    given = {name: str(place.folder / value) if name == "PREFECT_HOME" else value for name, value in given.items()}
    done = subprocess.run(
        [BIN / "scriptorium", "create"],
        env={**environment(tmp_path), **given},
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == code and message in done.stderr and len(done.stderr.splitlines()) == 2, done.stderr
