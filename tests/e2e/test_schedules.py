"""What nobody starts: the deployments on a server with a password, a worker, and schedules that come true."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect_server import PREFECT, clean, free_port, prefect_server, running, wait_for

from scriptorium.catalog import Catalog
from scriptorium.crashpoints import VARIABLE
from scriptorium.model import Backup

PROJECT = Path(__file__).parents[2]
PASSWORD = "librarian:at the desk"


@dataclass(frozen=True)
class House:
    """A library, its checkout (prefect.yaml and nothing else), a port for its server, a home for its worker."""

    place: Any
    folder: Path
    server_home: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def env(self) -> dict[str, str]:
        return clean(
            PREFECT_HOME=str(self.folder / "worker"),
            PREFECT_API_URL=self.url,
            PREFECT_API_AUTH_STRING=PASSWORD,
            SCRIPTORIUM_CONFIG=str(self.place.config),
            TZ="Asia/Tokyo",
        )

    def server(self) -> contextlib.AbstractContextManager[tuple[str, subprocess.Popen[bytes]]]:
        return prefect_server(self.server_home, self.port, PREFECT_SERVER_API_AUTH_STRING=PASSWORD)

    def worker(self, **more: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        words = ("worker", "start", "--pool", "scriptorium", "--limit", "1")
        return running(PREFECT, *words, env={**self.env, **more}, cwd=self.folder, log=self.folder / "worker.log")

    def prefect(self, *words: str) -> str:
        done = subprocess.run(
            [PREFECT, "--no-prompt", *words],
            env=self.env,
            cwd=self.folder / "checkout",
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, what: str, body: object = None) -> Any:
        token = base64.b64encode(PASSWORD.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}{what}", data, headers), timeout=20) as answer:
            return json.load(answer)

    def scheduled(self, name: str) -> list[datetime]:
        """When the runs of a deployment are to begin that its schedule has made."""
        wanted = {"state": {"type": {"any_": ["SCHEDULED"]}}}
        found = self.ask(
            "/flow_runs/filter", {"deployments": {"name": {"any_": [name]}}, "flow_runs": wanted, "limit": 50}
        )
        assert all(run["auto_scheduled"] for run in found)
        return sorted(datetime.fromisoformat(run["expected_start_time"]) for run in found)

    def backups(self) -> Sequence[Backup]:
        return [one for one in Catalog(self.place.settings).backups() if one.status.good]

    def tiers(self, text: str) -> None:
        self.place.config.write_text(self.place.config.read_text().split("\n[tiers.")[0] + f"\n{text}")


@pytest.fixture
def house(place: Any, tmp_path: Path, prefect_home: Callable[[Path], Path]) -> Iterator[House]:
    (tmp_path / "checkout").mkdir()
    shutil.copy(PROJECT / "prefect.yaml", tmp_path / "checkout")
    house = House(place, tmp_path, prefect_home(tmp_path / "server"), free_port())
    house.tiers('[tiers.daily]\ncron = "* * * * *"\ntype = "data"\n\n[tiers.weekly]\ntype = "full"\n')
    yield house


def require_silent(log: Path) -> None:
    said = re.findall(r".*(?:\bERROR\b|\bCRITICAL\b|Traceback|OperationalError|locked).*", log.read_text())
    assert said == []


@pytest.mark.timeout(400)
def test_a_schedule_of_the_settings_comes_true(house: House) -> None:
    """`prefect deploy --all`, a worker outside the checkout: the minute comes, and a backup is there."""
    with house.server():
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{house.url}/admin/version", timeout=20)
        house.prefect("work-pool", "create", "scriptorium", "--type", "process", "--overwrite")
        house.prefect("deploy", "--all")
        listed = json.loads(house.prefect("deployment", "ls", "--output", "json"))
        names = {one["name"] for one in listed}
        assert {"manual", "hourly", "daily", "weekly", "monthly", "restore", "undo", "verify", "prune"} <= names
        assert all(one["entrypoint"].startswith("flows.") for one in listed)
        assert all(one["global_concurrency_limit"] is None for one in house.ask("/deployments/filter", {}))

        with house.worker():
            house.prefect("deployment", "run", "backup/manual", "--param", "name=by-worker")
            wait_for(lambda: len(house.scheduled("daily")) > 2, 120)
            assert {moment.second for moment in house.scheduled("daily")} == {0}
            assert {(moment.astimezone(UTC).hour, moment.minute) for moment in house.scheduled("prune")} == {(21, 30)}
            assert house.scheduled("hourly") == []
            wait_for(lambda: {one.tier for one in house.backups()} == {"daily", "manual"}, 180)
        (daily,) = [one for one in house.backups() if one.tier == "daily"][:1]
        assert (daily.type, daily.status) == ("data", "verified")
        assert {one.name for one in house.backups()} >= {"by-worker"}

        house.tiers('[tiers.daily]\ncron = "17 4 * * *"\n')
        house.prefect("deploy", "-n", "tier/daily")
        wait_for(lambda: {(moment.hour, moment.minute) for moment in house.scheduled("daily")} == {(19, 17)}, 60)
    require_silent(house.server_home / "log")


@pytest.mark.slow  # it waits for two whole minutes
@pytest.mark.timeout(600)
def test_the_next_run_comes_after_server_and_worker_were_killed_in_the_middle_of_one(house: House) -> None:
    """As after a power cut: no slot, no lock and no lease that was left behind keeps the next run from its work."""
    gate = house.folder / "gate"
    held = {VARIABLE: json.dumps({"take.before-pack": f"wait:{gate}"})}
    with house.server() as (_, server):
        house.prefect("work-pool", "create", "scriptorium", "--type", "process", "--overwrite")
        house.prefect("deploy", "--all")
        with house.worker(**held) as worker:
            wait_for(Path(f"{gate}.here").exists, 180)
            for child in (worker, server):
                os.killpg(child.pid, signal.SIGKILL)
    _kill_what_the_worker_started(house)
    assert house.backups() == []
    with house.server(), house.worker():
        wait_for(lambda: bool(house.backups()), 180)


def _kill_what_the_worker_started(house: House) -> None:
    """A power cut ends the run itself, too, which leads a process group of its own."""
    mark = f"SCRIPTORIUM_CONFIG={house.place.config}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
