"""A library with a Prefect server that asks for a password, its deployments, and a worker, as README sets it up."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect_server import PREFECT, clean, free_port, prefect_server, running, wait_for

from scriptorium.catalog import Catalog
from scriptorium.model import Backup

PROJECT = Path(__file__).parents[2]
PASSWORD = "librarian:at the desk"


@dataclass(frozen=True)
class Deployed:
    """A library, a checkout that contains only prefect.yaml, a port for the server, a home for the worker."""

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

    def run(self, deployment: str, **parameters: object) -> None:
        """Do what `prefect deployment run` does, without the seconds that this command takes to load. It also tries
        again while the database of the server is locked (503)."""
        number = self.ask(f"/deployments/name/{deployment}")["id"]
        wait_for(lambda: bool(self.ask(f"/deployments/{number}/create_flow_run", {"parameters": parameters})), 60)

    def scheduled(self, name: str) -> list[datetime]:
        """The times of the runs that a deployment's schedule has made; runs that are late do not count."""
        wanted = {"state": {"type": {"any_": ["SCHEDULED"]}}}
        found = self.ask(
            "/flow_runs/filter", {"deployments": {"name": {"any_": [name]}}, "flow_runs": wanted, "limit": 50}
        )
        instants = (datetime.fromisoformat(run["expected_start_time"]) for run in found if run["auto_scheduled"])
        return sorted(instant for instant in instants if instant > datetime.now(UTC))

    def backups(self) -> Sequence[Backup]:
        return [one for one in Catalog(self.place.settings).backups() if one.status.good]

    def tiers(self, text: str) -> None:
        self.place.config.write_text(self.place.config.read_text().split("\n[tiers.")[0] + f"\n{text}")


def deployed(place: Any, folder: Path, server_home: Path) -> Deployed:
    """The deployment of this place; ``folder``: a new one for Prefect's files."""
    (folder / "checkout").mkdir(parents=True)
    shutil.copy(PROJECT / "prefect.yaml", folder / "checkout")
    deployment = Deployed(place, folder, server_home, free_port())
    deployment.tiers('[tiers.daily]\ncron = "* * * * *"\ntype = "data"\n\n[tiers.weekly]\ntype = "full"\n')
    return deployment
