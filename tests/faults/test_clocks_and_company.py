"""Clocks that lie, children that hang, and two runs that want the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import LibraryBusy, ToolFailed, ToolStalled
from scriptorium.process import run, stream
from scriptorium.pruning import carry_out, plan_cleanup, policy_of
from scriptorium.retention import Policy


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_child_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    with pytest.raises(ToolStalled, match="bash did not end within"):
        run(["bash", "-c", f"sleep 300 & echo $! $$ > {pids}; wait"], timeout=0.5)
    assert time.monotonic() - began < 10
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_a_child_that_ignores_being_asked_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; echo $$ > {pids}; while :; do sleep 1; done"
    with pytest.raises(ToolStalled):
        run(["bash", "-c", script], timeout=0.5)
    assert not alive(int(pids.read_text()))


def test_a_dump_that_ends_early_is_an_error_at_its_end() -> None:
    """What a child wrote before it died is never taken for all that it had to say."""
    with pytest.raises(ToolFailed, match="SIGKILL"), stream(["bash", "-c", "echo half; kill -9 $$"]) as out:
        assert out.read() == b"half\n"


@pytest.mark.parametrize("cut", [0, 1, 100, -1000, -1])
def test_an_archive_that_ends_early_is_found(house: Any, cut: int) -> None:
    backup = Catalog(house.settings).backups(records=False)[0]
    copy = next(one for one in backup.copies if one.store == "second")
    file = Path(house.settings.store("second").local_path(copy.key))
    os.truncate(file, cut % file.stat().st_size)
    assert house.again("verify") == f"{backup.id}:second"
    listed = {one.store: one.status for one in Catalog(house.settings).find(backup.id).copies}
    assert listed["second"] == "damaged" and listed["local"] == "verified"
    house.again("backup")  # and the living goes on


def test_a_clock_that_was_set_back(house: Any) -> None:
    """A backup that is taken "before" the others: nothing is replaced, nothing that is newer in truth is removed."""
    past = datetime.now(UTC) - timedelta(days=400)
    taken = house.driver.backup(house.settings, now=past)
    again = house.driver.backup(house.settings, now=past)
    house.require_sound()
    assert {(id, store) for id in (taken, again) for store in ("local", "second")} <= house.copies()
    plan = plan_cleanup(house.settings, "bibliotheca", Policy(last=1, max_age=30), now=past)
    assert {one.candidate.id for one in plan if one.keep} >= {house.newest}, "what lies in the future is not old"
    house.require_sound()


def test_a_clock_that_was_set_back_while_it_was_taken(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose record says a later time than now was cut short: the next one still finds and clears it."""
    ahead = datetime.now(UTC) + timedelta(days=3)
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr("scriptorium.stores.backups.reach", lambda point: os.kill(os.getpid(), signal.SIGKILL))
        house.driver.backup(house.settings, now=ahead)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    house.again("backup")
    house.require_sound()
    house.require_tidy()


def test_two_hosts_whose_clocks_differ(house: Any) -> None:
    """One of two hosts is three days ahead; both back up into the same stores, and either may clean up."""
    ahead = datetime.now(UTC) + timedelta(days=3)
    theirs = house.driver.backup(house.settings, now=ahead)
    ours = house.driver.backup(house.settings)
    library, policy = "bibliotheca", policy_of({"last": 2})
    assert Catalog(house.settings).find("latest").id == theirs
    removed = carry_out(house.settings, library, plan_cleanup(house.settings, library, policy))
    oldest = {id for id, _ in house.before} - {house.newest}
    assert set(removed) == oldest, "what is dated in the future counts for nothing and is kept"
    assert {id for id, _ in house.copies()} == {theirs, ours, house.newest}
    aged = plan_cleanup(house.settings, library, Policy(max_age=1), now=ahead + timedelta(hours=1))
    assert next(one for one in aged if one.candidate.id == theirs).keep
    house.require_sound(but=oldest)


@pytest.mark.parametrize("second", ["backup", "restore", "cleanup"])
def test_two_runs_at_once(house: Any, second: str) -> None:
    """The second one says who has it, and has changed nothing; the first one ends as if nobody had come."""
    gate = house.place.folder / "gate"
    with house.started("backup", {"take.before-pack": f"wait:{gate}"}) as child:
        wait_for(Path(f"{gate}.here"), child)
        with pytest.raises(LibraryBusy, match=f"full backup [0-9a-f]{{12}}, process {child.pid} on .*, since"):
            house.again(second)
        assert house.again("verify") == "", "reading is for everyone"
        assert house.living == house.old
        gate.touch()
        assert child.wait(60) == 0
    house.require_sound()
    house.require_tidy()
    house.require_no_child()


def wait_for(file: Path, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not file.exists():
        assert child.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def test_nothing_waits_where_nothing_is_armed() -> None:
    """In production a crash point is one look at an empty table: ten thousand of them cost less than a hundredth."""
    code = "import time; from scriptorium.crashpoints import reach; t = time.process_time()\nfor _ in range(10_000):"
    code += " reach('upload.before-manifest')\nprint(time.process_time() - t)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SCRIPTORIUM")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    assert float(done.stdout) < 0.05
