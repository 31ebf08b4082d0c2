"""Prefect by itself: a schedule that continues after a power cut, and an embedded server that strangers query."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect_deployments import Deployed, deployed
from prefect_server import clean, running, wait_for

from scriptorium.failpoints import VARIABLE

SCRIPTORIUM = Path(sys.executable).with_name("scriptorium")


@pytest.mark.slow  # it waits for two whole minutes
@pytest.mark.timeout(600)
def test_server_and_worker_are_killed_in_the_middle_of_a_scheduled_run(
    rig: Any, tmp_path: Path, prefect_home: Callable[[Path], Path]
) -> None:
    """As after a power cut: no slot, lock or lease that was left behind stops the next run."""
    gate = tmp_path / "gate"
    ours = deployed(rig.place, tmp_path / "prefect", prefect_home(tmp_path / "server"))
    held = {VARIABLE: json.dumps({"take.before-pack": f"wait:{gate}"})}
    with ours.server() as (_, server):
        ours.prefect("work-pool", "create", "scriptorium", "--type", "process", "--overwrite")
        ours.prefect("deploy", "--all")
        with ours.worker(**held) as worker:
            wait_for(Path(f"{gate}.here").exists, 180)
            for child in (worker, server):
                os.killpg(child.pid, signal.SIGKILL)
    _kill_what_the_worker_started(ours)
    assert rig.copies() == rig.before
    with ours.server(), ours.worker():
        wait_for(lambda: rig.copies() > rig.before, 180)
    rig.require_tidy()


def _kill_what_the_worker_started(ours: Deployed) -> None:
    """A power cut ends the run itself too, which leads a process group of its own."""
    mark = f"SCRIPTORIUM_CONFIG={ours.place.config}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def test_another_user_asks_the_embedded_server(rig: Any, tmp_path: Path, prefect_home: Callable[[Path], Path]) -> None:
    """While a command runs, no other user can read what it does, set its state, or learn the password."""
    gate = tmp_path / "gate"
    env = clean(
        PREFECT_HOME=str(prefect_home(tmp_path / "command")),
        SCRIPTORIUM_CONFIG=str(rig.place.config),
        **{VARIABLE: json.dumps({"take.before-pack": f"wait:{gate}"})},
    )
    with running(SCRIPTORIUM, "create", env=env, cwd=tmp_path, log=tmp_path / "log") as command:
        wait_for(Path(f"{gate}.here").exists, 120)
        children = psutil.Process(command.pid).children()
        (server,) = [one for one in children if any("embedded_server" in word for word in one.cmdline())]
        (port,) = {one.laddr.port for one in server.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
        forged = {"state": {"type": "COMPLETED"}, "force": True}
        for path, body in (("flow_runs/filter", {}), ("logs/filter", {}), ("flow_runs/0/set_state", forged)):
            for given in ({}, {"Authorization": "Basic c2NyaXB0b3JpdW06"}):
                headers = {"Content-Type": "application/json", **given}
                asked = urllib.request.Request(
                    f"http://127.0.0.1:{port}/api/{path}", json.dumps(body).encode(), headers
                )
                with pytest.raises(urllib.error.HTTPError, match="401"):
                    urllib.request.urlopen(asked, timeout=20)
        if os.geteuid() == 0:
            look = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", f"/proc/{server.pid}/environ"]
            assert subprocess.run(look, cwd="/", capture_output=True).stdout == b""
        gate.touch()
        assert command.wait(120) == 0, (tmp_path / "log").read_text()
    assert rig.copies() > rig.before
