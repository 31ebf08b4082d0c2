"""Every operation, ended before and after each of its steps: what is left, and that the next run repairs it.

The suite runs one row for each kind of step; ``make faults`` runs every point, at least the first and the last time
that it is reached, with each signal.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from scriptorium.errors import NotFound

# Points by operation, with the times (of those that an undisturbed run reaches) that are tried; the test of
# completeness knows when one is missing. Those in the second table are tried by the suite.
MOVED = tuple(range(1, 17))
POINTS: dict[str, dict[str, tuple[int, ...]]] = {
    "backup": {
        "take.locked": (1,),
        "take.recorded": (1,),
        "take.staging": (1,),
        "take.before-snapshot": (1, 2, 3),
        "take.after-snapshot": (1, 2, 3),
        "take.before-pack": (1,),
        "driver.bytes-moved": (1, 5, 9, 18, 19),
        "take.packed": (1,),
        "take.before-check": (1,),
        "upload.before-archive": (1, 2),
        "store.before-rename": (1, 2, 3, 4, 5, 6),
        "store.after-rename": (1, 2, 3, 4, 5, 6),
        "upload.before-manifest": (1, 2),
        "upload.after-manifest": (1, 2),
        "take.before-annotations": (1, 2),
        "take.stored": (1,),
        "take.tidied": (1,),
        "take.finished": (1,),
    },
    "restore": {
        "index.before-rename": (1, 2),
        "index.after-rename": (1, 2),
        "restore.planned": (1,),
        "restore.journal-open": (1,),
        "restore.part-prepared": (1, 2, 3),
        "driver.bytes-moved": (1,),
        "restore.unpacked": (1,),
        "restore.loaded": (1,),
        "restore.before-switch": (1, 2, 3),
        "renames.before-plan": (1, 2, 3),
        "renames.planned": (1, 2, 3),
        "renames.moved": MOVED,
        "renames.attributes-set": (1, 2),
        "restore.all-switched": (1,),
        "restore.before-kept": (1,),
        "restore.before-previous-is-dropped": (1,),
    },
    "undo": {"renames.moved-back": MOVED, "renames.all-back": (1, 2, 3)},
    "drill": {
        "index.before-rename": (1, 2),
        "index.after-rename": (1, 2),
        "drill.locked": (1,),
        "drill.prepared": (1,),
        "driver.bytes-moved": (1,),
        "drill.unpacked": (1,),
        "drill.loaded": (1,),
        "drill.before-annotations": (1,),
        "store.before-rename": (1,),
        "store.after-rename": (1,),
    },
    "verify": {
        "index.before-rename": (1, 2),
        "index.after-rename": (1, 2),
        "verify.before-reading": (1, 4),
        "driver.bytes-moved": (1, 4),
        "verify.before-annotations": (1, 4),
        "store.before-rename": (1, 4),
        "store.after-rename": (1, 4),
    },
    "cleanup": {
        "index.before-rename": (1, 2, 3, 4),
        "index.after-rename": (1, 2, 3, 4),
        "prune.locked": (1,),
        "prune.before-backup": (1,),
        "remove.before-object": (1, 2, 3, 4, 5, 6),
        "remove.after-objects": (1, 2),
        "prune.before-index": (1,),
    },
    "rebuild": {"index.before-rename": (1, 2), "index.after-rename": (1, 2)},
}
QUICK = {
    ("backup", "take.after-snapshot", 2, "KILL"),
    ("backup", "driver.bytes-moved", 9, "KILL"),
    ("backup", "driver.bytes-moved", 5, "TERM"),
    ("backup", "upload.before-manifest", 1, "KILL"),
    ("backup", "store.before-rename", 5, "KILL"),
    ("backup", "store.after-rename", 1, "TERM"),
    ("backup", "store.after-rename", 5, "TERM"),
    ("restore", "restore.unpacked", 1, "KILL"),
    ("restore", "renames.moved", 1, "KILL"),
    ("restore", "renames.moved", 5, "TERM"),
    ("restore", "renames.planned", 3, "KILL"),
    ("restore", "restore.before-kept", 1, "KILL"),
    ("restore", "restore.before-previous-is-dropped", 1, "KILL"),
    ("undo", "renames.moved-back", 6, "KILL"),
    ("undo", "renames.all-back", 1, "TERM"),
    ("drill", "drill.loaded", 1, "KILL"),
    ("drill", "store.before-rename", 1, "TERM"),
    ("verify", "store.before-rename", 1, "KILL"),
    ("cleanup", "remove.before-object", 2, "KILL"),
    ("cleanup", "remove.before-object", 5, "TERM"),
    ("rebuild", "index.before-rename", 1, "KILL"),
}


def rows(operation: str) -> list[Any]:
    return [
        pytest.param(
            f"{point}#{time}",
            signal,
            id=f"{signal}-{point}-{time}",
            marks=() if (operation, point, time, signal) in QUICK else (pytest.mark.slow,),
        )
        for point, times in POINTS[operation].items()
        for time in times
        for signal in ("KILL", "TERM")
    ]


def end_at(rig: Any, operation: str, point: str, signal: str) -> None:
    """Run it until the point at which it is ended."""
    ended = rig.run(operation, {point: signal})
    if signal == "KILL":
        assert ended.status == -9, (ended, "the point was never reached")
    else:
        assert ended.status == 130 and ended.stderr.startswith("ended by SIGTERM"), ended


@pytest.mark.parametrize(("point", "signal"), rows("backup"))
def test_a_backup_that_is_ended(rig: Any, point: str, signal: str) -> None:
    end_at(rig, "backup", point, signal)
    rig.require_listed(point, signal)
    assert rig.living == rig.old
    rig.require_sound()
    if signal == "TERM":
        rig.require_tidy()
    taken = rig.again("backup")
    rig.require_sound()
    assert {(taken, "local"), (taken, "second")} <= rig.copies()
    rig.require_tidy()
    assert rig.living == rig.old


@pytest.mark.parametrize(("point", "signal"), rows("restore"))
def test_a_restore_that_is_ended(rig: Any, point: str, signal: str) -> None:
    if point.startswith("index"):
        stale(rig)
    end_at(rig, "restore", point, signal)
    rig.require_sound()
    if signal == "KILL":
        rig.next_after("restore", point)
    rig.require_whole_living()
    if rig.living != rig.new:
        rig.again("restore")
    assert rig.living == rig.new
    rig.require_sound()
    rig.require_tidy(after_grace=True)
    if point.startswith(("renames", "restore.before-switch")):
        rig.again("undo")
        assert rig.living == rig.old


@pytest.mark.parametrize(("point", "signal"), rows("undo"))
def test_an_undo_that_is_ended(rig: Any, point: str, signal: str) -> None:
    rig.again("restore")
    assert rig.living == rig.new
    end_at(rig, "undo", point, signal)
    rig.next_after("restore", point)
    if rig.living == rig.new:
        rig.again("undo")
    assert rig.living == rig.old, "the previous data is kept until it is back"
    rig.require_sound()
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize(("point", "signal"), rows("drill"))
def test_a_drill_that_is_ended(rig: Any, point: str, signal: str) -> None:
    stale(rig)
    end_at(rig, "drill", point, signal)
    assert rig.living == rig.old
    rig.require_sound()
    assert rig.again("drill") == ""
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize(("point", "signal"), rows("verify"))
def test_verifying_that_is_ended(rig: Any, point: str, signal: str) -> None:
    stale(rig)
    end_at(rig, "verify", point, signal)
    rig.require_sound()
    assert rig.again("verify") == ""
    assert rig.living == rig.old
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize(("point", "signal"), rows("cleanup"))
def test_a_cleanup_that_is_ended(rig: Any, point: str, signal: str) -> None:
    stale(rig)
    removed = {id for id, _ in rig.before} - {rig.newest}
    end_at(rig, "cleanup", point, signal)
    rig.require_sound(but=removed)
    rig.again("cleanup")
    assert rig.copies() == {(rig.newest, "local"), (rig.newest, "second")}
    rig.require_sound(but=removed)
    rig.require_tidy(after_grace=True)
    assert rig.living == rig.old


@pytest.mark.parametrize("time", [1, 2, 3])
@pytest.mark.parametrize("signal", ["KILL", pytest.param("TERM", marks=pytest.mark.slow)])
def test_dropping_previous_data_that_is_ended(rig: Any, time: int, signal: str) -> None:
    """Once a part of the previous data is dropped, no undo may put back the rest."""
    rig.again("restore")
    (journal,) = (rig.settings.workspace_folder / "restores").iterdir()
    os.utime(journal, (0, 0))
    end_at(rig, "cleanup", f"previous.part-dropped#{time}", signal)
    with pytest.raises(NotFound, match="no previous data"):
        rig.again("undo")
    assert rig.living == rig.new
    rig.again("backup")
    rig.require_tidy(after_grace=True)
    assert not list((rig.settings.workspace_folder / "restores").iterdir())
    rig.require_sound(but={id for id, _ in rig.before} - {rig.newest})


@pytest.mark.parametrize(("point", "signal"), rows("rebuild"))
def test_a_rebuild_that_is_ended(rig: Any, point: str, signal: str) -> None:
    stale(rig)
    end_at(rig, "rebuild", point, signal)
    rig.require_sound()
    assert rig.again("rebuild") == "4"
    rig.require_tidy(after_grace=True)


def stale(rig: Any) -> None:
    """The indexes are gone, as after the loss of a disk's cache: the next read makes them again."""
    for store in rig.settings.stores.values():
        (store.folder / "backup_index.json").unlink(missing_ok=True)


@pytest.mark.parametrize("operation", POINTS)
def test_every_point_is_in_the_matrix(rig: Any, operation: str) -> None:
    if operation == "undo":
        rig.again("restore")
    else:
        stale(rig)
    rig.removed = {id for id, _ in rig.before} - {rig.newest} if operation == "cleanup" else set()
    log = rig.place.folder / "reached"
    assert rig.run(operation, {"*": f"log:{log}"}).status == 0
    reached = Counter(instant.partition("#")[0] for instant in log.read_text().split())
    tried = {point: (min(times), max(times)) for point, times in POINTS[operation].items()}
    assert tried == {point: (1, count) for point, count in reached.items()}, "every point, its first and its last time"
