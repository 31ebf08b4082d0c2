"""What nobody starts: deployments on a server with a password, a worker, and schedules that are due."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from prefect_deployments import PROJECT, Deployed, deployed
from prefect_server import PREFECT, clean, running, wait_for

SCRIPTORIUM = Path(sys.executable).with_name("scriptorium")


_LOGGED = "'17 4 * * *' in Asia/Tokyo"


def require_silent(log: Path) -> None:
    """No error in a server's log. When the whole suite runs, SQLite may be locked for a short time: Prefect tries
    again, and logs it a few times at most."""
    records = re.split(r"^(?=\d\d:\d\d:\d\d\.\d{3} \| )", log.read_text(), flags=re.MULTILINE)
    locked = [record for record in records if "database is locked" in record]
    errors = [one for one in records if re.search(r"\bERROR\b|\bCRITICAL\b|Traceback|OperationalError|locked", one)]
    assert [one for one in errors if one not in locked] == [] and len(locked) <= 5, locked


def log_tab(deployment: Deployed, module: str) -> list[str]:
    """What a module of the core logged in the log tab of a run that somebody started by hand and a worker ran."""
    (run,) = deployment.ask("/flow_runs/filter", {"deployments": {"name": {"any_": ["manual"]}}})
    lines = deployment.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
    return [line["message"] for line in lines if line["name"] == module]


@pytest.mark.timeout(400)
def test_a_schedule_of_the_settings_comes_true(
    place: Any, tmp_path: Path, prefect_home: Callable[[Path], Path]
) -> None:
    """`prefect deploy --all`, and a worker outside the checkout: at the next minute, a backup is made."""
    deployment = deployed(place, tmp_path / "prefect", prefect_home(tmp_path / "server"))
    with deployment.server():
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{deployment.url}/admin/version", timeout=20)
        env = {**deployment.env, "PREFECT_API_AUTH_STRING": "librarian:guessed"}
        stranger = subprocess.run([SCRIPTORIUM, "create"], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert (stranger.returncode, "Prefect's API asks for another password" in stranger.stderr) == (6, True)
        deployment.prefect("work-pool", "create", "scriptorium", "--type", "process", "--overwrite")
        deployment.prefect("deploy", "--all")
        listed = deployment.ask("/deployments/filter", {})
        names = {one["name"] for one in listed}
        assert {"manual", "hourly", "daily", "weekly", "monthly", "restore", "undo", "verify", "prune"} <= names
        assert all(one["entrypoint"].startswith("flows.") for one in listed)
        assert all(one["global_concurrency_limit"] is None for one in listed)

        with deployment.worker():
            deployment.run("backup/manual", name="by-worker")
            wait_for(lambda: len(deployment.scheduled("daily")) > 2, 120)
            assert {instant.second for instant in deployment.scheduled("daily")} == {0}
            wait_for(lambda: len(deployment.scheduled("prune")) > 0, 120)  # the scheduler takes them in several passes
            assert {(instant.astimezone(UTC).hour, instant.minute) for instant in deployment.scheduled("prune")} == {
                (21, 30)
            }
            assert deployment.scheduled("hourly") == []
            wait_for(lambda: {one.tier for one in deployment.backups()} == {"daily", "manual"}, 180)
            (by_worker,) = [one for one in deployment.backups() if one.name == "by-worker"]
            done = f"backup {by_worker.id} is verified"  # sent every few seconds; a run that ends now sends no more
            wait_for(
                lambda: any(line.startswith(done) for line in log_tab(deployment, "scriptorium.operations.backup")), 60
            )
        (daily,) = [one for one in deployment.backups() if one.tier == "daily"][:1]
        assert (daily.type, daily.status) == ("data", "verified")

        deployment.tiers('[tiers.daily]\ncron = "17 4 * * *"\ntype = "config"\n')
        with deployment.worker():  # not deployed yet: the next run fails with that message
            deployment.run("tier/daily")
            wait_for(lambda: "config" in {one.type for one in deployment.backups()}, 120)
            newest = {"sort": "TIMESTAMP_DESC"}
            wait_for(lambda: any(_LOGGED in one["message"] for one in deployment.ask("/logs/filter", newest)), 60)
        deployment.prefect("deploy", "-n", "tier/daily")
        wait_for(
            lambda: {(instant.hour, instant.minute) for instant in deployment.scheduled("daily")} == {(19, 17)}, 60
        )
    require_silent(deployment.server_home / "log")


@pytest.mark.timeout(400)
def test_the_commands_of_readme_give_a_server_and_a_worker(
    place: Any, tmp_path: Path, prefect_home: Callable[[Path], Path]
) -> None:
    """As they are in the document, one after the other; the server writes log lines and continues to run."""
    deployment = deployed(place, tmp_path / "prefect", prefect_home(tmp_path / "server"))
    chapter = (PROJECT / "README.md").read_text("utf-8").split("### By Prefect")[1].split("\n##")[0]
    (block,) = re.findall(r"```console\n(.*?)```", chapter, re.DOTALL)
    commands = block.replace("$ ", "").replace(":4200", f":{deployment.port}")
    script = commands.replace("/etc/scriptorium/scriptorium.toml", str(place.config))
    env = clean(
        PATH=f"{PREFECT.parent}{os.pathsep}{os.environ['PATH']}",
        PREFECT_HOME=str(deployment.server_home),
        PREFECT_SERVER_API_PORT=str(deployment.port),
        PREFECT_SERVER_LOGGING_LEVEL="DEBUG",
    )
    log = tmp_path / "log"
    with running("bash", "-eu", "-c", script, env=env, cwd=deployment.folder / "checkout", log=log):
        wait_for(lambda: "daily" in {one.tier for one in deployment.backups()}, 240)
        wait_for(lambda: urllib.request.urlopen(f"{deployment.url}/health", timeout=20).status == 200, 120)
    assert stat.S_IMODE((deployment.folder / "checkout" / "prefect-server.log").stat().st_mode) == 0o600
