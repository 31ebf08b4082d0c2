"""The ways Prefect's users start things: deployments with a worker, the API, and no server at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCRIPTORIUM"))}
    return {
        **kept,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "COLUMNS": "240",
        **more,
    }


def prefect(*words: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [BIN / "prefect", "--no-prompt", *words], env=env, cwd=cwd, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_deploy_all_and_run_by_a_worker(place: Any, server: str, tmp_path: Path) -> None:
    """`prefect deploy --all`, then a run that a worker takes, in a folder that is not the checkout."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copy(PROJECT / "prefect.yaml", checkout)
    env = environment(tmp_path, PREFECT_API_URL=server, SCRIPTORIUM_CONFIG=str(place.config))
    prefect("work-pool", "create", "scriptorium", "--type", "process", "--overwrite", env=env, cwd=checkout)
    prefect("deploy", "--all", env=env, cwd=checkout)
    listed = json.loads(prefect("deployment", "ls", "--output", "json", env=env, cwd=checkout))
    names = {one["name"] for one in listed}
    assert {"manual", "daily", "weekly", "monthly", "restore", "verify", "prune"} <= names
    assert all(one["entrypoint"].startswith("flows.") for one in listed)

    prefect("deployment", "run", "backup/manual", "--param", "name=by-worker", env=env, cwd=checkout)
    prefect("worker", "start", "--pool", "scriptorium", "--run-once", env=env, cwd=tmp_path)
    from scriptorium.catalog import Catalog

    assert Catalog(place.settings).find("by-worker").status == "verified"


def test_without_a_server_the_embedded_one_keeps_the_history(place: Any, tmp_path: Path) -> None:
    """Started by the command with no server anywhere; the run is there later, with the same PREFECT_HOME."""
    env = environment(tmp_path)
    done = subprocess.run(
        [BIN / "scriptorium", "create", "--json"],
        env=env,
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "verified"
    runs = prefect("flow-run", "ls", env=env, cwd=tmp_path)
    assert "manual full backup" in runs and "COMPLETED" in runs.upper()


def test_nothing_is_left_running(place: Any, tmp_path: Path, children_of: Callable[[str], list[str]]) -> None:
    """The embedded server and every child are gone when the command ends."""
    env = environment(tmp_path, SCRIPTORIUM_TEST_MARK=str(tmp_path))
    subprocess.run([BIN / "scriptorium", "create", "-q"], env=env, cwd=place.folder, check=True, timeout=240)
    assert children_of(str(tmp_path)) == []


def test_ctrl_c_is_exit_130_although_it_ends_the_embedded_server_too(place: Any, tmp_path: Path) -> None:
    """The terminal tells every process of the group; what Prefect then says of its server is of no account."""
    from scriptorium.crashpoints import VARIABLE

    gate = tmp_path / "gate"
    env = environment(tmp_path, **{VARIABLE: json.dumps({"take.before-pack": f"wait:{gate}"})})
    with subprocess.Popen(
        [BIN / "scriptorium", "create", "--json"],
        env=env,
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as command:
        until = time.monotonic() + 120
        while not Path(f"{gate}.here").exists():
            assert command.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        os.killpg(command.pid, signal.SIGINT)
        out, err = command.communicate(timeout=120)
    assert command.returncode == 130, err
    assert json.loads(out)["error"] == "interrupted" and "unexpected" not in err
    assert not list(place.backups.glob("bibliotheca/*"))
