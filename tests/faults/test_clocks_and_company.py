"""Clocks that are wrong, hours that are skipped and repeated, and two runs that want the same library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import driver
import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import LibraryBusy
from scriptorium.operations.prune import carry_out, policy_of
from scriptorium.operations.prune_plan import plan_cleanup
from scriptorium.retention import Policy


@pytest.mark.parametrize("cut", [0, 1, 100, -1000, -1])
def test_an_archive_that_ends_early_is_found(rig: Any, cut: int) -> None:
    backup = Catalog(rig.settings).backups(records=False)[0]
    copy = next(one for one in backup.copies if one.store == "second")
    file = Path(rig.settings.store("second").location(copy.key))
    os.truncate(file, cut % file.stat().st_size)
    rig.hurt = {(backup.id, "second")}
    assert rig.again("verify") == f"{backup.id}:second"
    listed = {one.store: one.status for one in Catalog(rig.settings).find(backup.id).copies}
    assert listed["second"] == "damaged" and listed["local"] == "verified"
    rig.again("backup")  # and the living data is changed


def test_a_clock_that_was_set_back(rig: Any) -> None:
    """A backup is taken "before" the others: nothing is replaced, and nothing that is really newer is removed."""
    past = datetime.now(UTC) - timedelta(days=400)
    taken = driver.backup(rig.settings, now=past)
    again = driver.backup(rig.settings, now=past)
    rig.require_sound()
    assert {(id, store) for id in (taken, again) for store in ("local", "second")} <= rig.copies()
    plan = plan_cleanup(rig.settings, "bibliotheca", Policy(last=1, max_age=30), now=past)
    assert {one.candidate.id for one in plan if one.keep} >= {rig.newest}, "what lies in the future is not old"
    rig.require_sound()


def test_a_clock_that_was_set_back_while_it_was_taken(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run was cut short, and its record has a time in the future: the next run still finds it and clears it."""
    ahead = datetime.now(UTC) + timedelta(days=3)
    pid = os.fork()
    if pid == 0:
        layout = "scriptorium.stores.objects.layout.reach"
        monkeypatch.setattr(layout, lambda point: os.kill(os.getpid(), signal.SIGKILL))
        driver.backup(rig.settings, now=ahead)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    rig.again("backup")
    rig.require_sound()
    rig.require_tidy()


def test_two_hosts_whose_clocks_differ(rig: Any) -> None:
    """One of two hosts is three days ahead; both back up into the same stores, and each may clean up."""
    ahead = datetime.now(UTC) + timedelta(days=3)
    theirs = driver.backup(rig.settings, now=ahead)
    ours = driver.backup(rig.settings)
    library, policy = "bibliotheca", policy_of({"last": 2})
    assert Catalog(rig.settings).find("latest").id == theirs
    removed = carry_out(rig.settings, library, plan_cleanup(rig.settings, library, policy))
    oldest = {id for id, _ in rig.before} - {rig.newest}
    assert set(removed) == oldest, "what is dated in the future counts for nothing and is kept"
    assert {id for id, _ in rig.copies()} == {theirs, ours, rig.newest}
    aged = plan_cleanup(rig.settings, library, Policy(max_age=1), now=ahead + timedelta(hours=1))
    assert next(one for one in aged if one.candidate.id == theirs).keep
    rig.require_sound(but=oldest)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set this machine's time zone."""

    def to(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield to
    monkeypatch.undo()
    time.tzset()


HOURS = {  # the day's clock in Berlin at that moment
    "01:59, and then the clock is put forward": "2026-03-29T00:59:59+00:00",
    "03:00": "2026-03-29T01:00:00+00:00",
    "02:30": "2025-10-26T00:30:00+00:00",
    "02:30 once more, since the clock was put back": "2025-10-26T01:30:00+00:00",
}


def test_the_hours_that_daylight_saving_skips_and_repeats(rig: Any, zone: Callable[[str], None]) -> None:
    """Names and times are UTC, so none replaces another; retention counts the hours of local time."""
    zone("America/New_York")  # the settings name a zone, so the machine's own is not used
    rig.place.config.write_text('timezone = "Europe/Berlin"\n' + rig.place.config.read_text())
    taken = {}
    for name, instant in HOURS.items():
        now = datetime.fromisoformat(instant)
        taken[name] = driver.backup(rig.settings, now=now)
        listed = Catalog(rig.settings).find(taken[name])
        assert listed.created_at == now
        assert {copy.key for copy in listed.copies} == {f"bibliotheca/full_{now:%Y%m%d_%H%M%S}.tar.gz"}
    rig.require_sound()
    order = [one.id for one in Catalog(rig.settings).backups(records=False)]
    assert order[2:] == [taken["03:00"], *(id for name, id in taken.items() if name.startswith("01:59"))] + [
        id for name, id in reversed(taken.items()) if name.startswith("02:30")
    ]
    plan = plan_cleanup(rig.settings, "bibliotheca", Policy(hourly=5))
    assert carry_out(rig.settings, "bibliotheca", plan) == (taken["02:30"],), "one hour, shown twice"
    assert driver.restore(rig.settings, "full_20260329_010000") == taken["03:00"]
    assert rig.living == rig.old


TOGETHER = [  # who has the library, at which point, and who comes
    ("backup", "take.before-pack", "backup"),
    ("backup", "take.before-pack", "restore"),
    ("backup", "take.before-pack", "cleanup"),
    ("restore", "restore.before-switch", "backup"),
    ("restore", "restore.all-switched", "restore"),
    ("restore", "restore.all-switched", "cleanup"),
    ("cleanup", "remove.before-object", "backup"),
    ("cleanup", "prune.before-index", "restore"),
    ("drill", "drill.loaded", "drill"),
]
SOON = {TOGETHER[0], TOGETHER[2], TOGETHER[4]}


@pytest.mark.parametrize(
    ("first", "point", "second"),
    [pytest.param(*row, marks=() if row in SOON else pytest.mark.slow, id=f"{row[0]}-{row[2]}") for row in TOGETHER],
)
def test_two_runs_at_once(rig: Any, first: str, point: str, second: str) -> None:
    """The second run reports which run has the library, and has changed nothing; the first run is not disturbed."""
    gate = rig.place.folder / "gate"
    removed = {id for id, _ in rig.before} - {rig.newest}
    rig.removed = removed if first == "cleanup" else set()
    with rig.started(first, {f"{point}#1": f"wait:{gate}"}) as child:
        wait_for(Path(f"{gate}.here"), child)
        with pytest.raises(LibraryBusy, match=f"process {child.pid} on .*, since"):
            rig.again(second)
        if first != "cleanup":
            assert rig.again("verify") == "" and rig.again("rebuild") == "4", "reading is for everyone"
        gate.touch()
        assert child.wait(60) == 0
    assert rig.living == (rig.new if first == "restore" else rig.old)
    rig.require_sound()
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize("operation", ["backup", "cleanup"])
def test_a_drill_blocks_no_other_run(rig: Any, operation: str) -> None:
    """During a drill, the library is backed up and cleaned up; the backup that is drilled is kept."""
    gate = rig.place.folder / "gate"
    with rig.started("drill", {"drill.prepared": f"wait:{gate}"}) as child:
        wait_for(Path(f"{gate}.here"), child)
        rig.again(operation)
        gate.touch()
        assert child.wait(60) == 0
    rig.removed = {id for id, _ in rig.before} - {rig.newest} if operation == "cleanup" else set()
    rig.require_sound()
    rig.require_tidy(after_grace=True)
    assert rig.living == rig.old


def wait_for(file: Path, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not file.exists():
        assert child.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def test_nothing_waits_where_nothing_is_armed() -> None:
    """In production a failpoint is one look at an empty table: ten thousand of them take less than a hundredth of a
    second."""
    code = "import time; from scriptorium.failpoints import reach; t = time.process_time()\nfor _ in range(10_000):"
    code += " reach('upload.before-manifest')\nprint(time.process_time() - t)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SCRIPTORIUM")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    assert float(done.stdout) < 0.05
