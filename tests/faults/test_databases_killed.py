"""A library with a PostgreSQL database: every operation, ended before and after each of its steps.

Whatever is ended: the living database and files are completely the old or completely the new ones, and the next run
removes what a run left on the server. The suite runs one row for each kind of step; ``make faults`` runs every point,
at least the first and the last time that it is reached, with each signal.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from matrix import differing

from scriptorium.errors import RestoreFailed

# Every point that an undisturbed run reaches, with the times that are tried: the first, the last, and some between.
BESIDE = {
    "restore.planned": (1,),
    "restore.journal-open": (1,),
    "restore.part-prepared": (1, 2, 3),
    "driver.bytes-moved": (1,),
    "restore.unpacked": (1,),
    "database.before-create": (1,),
    "database.created": (1,),
    "database.restoring": (1, 2, 4),
    "database.filled": (1,),
    "database.indexed": (1,),
    "restore.loaded": (1,),
    "restore.before-switch": (1, 2, 3),
    "database.before-switch": (1,),
    "database.renaming": (1,),
    "database.switched": (1,),
    "renames.before-plan": (1, 2),
    "renames.planned": (1, 2),
    "renames.moved": (1, 3, 21),
    "renames.attributes-set": (1, 2),
    "restore.all-switched": (1,),
    "restore.before-kept": (1,),
    "restore.before-previous-is-dropped": (1,),
}
IN_PLACE = {
    "restore.planned": (1,),
    "restore.journal-open": (1,),
    "restore.part-prepared": (1, 3),
    "driver.bytes-moved": (1,),
    "restore.unpacked": (1,),
    "inplace.before-saving": (1,),
    "dump.held": (1,),
    "dump.begun": (1,),
    "dump.ended": (1,),
    "dump.before-fingerprints": (1,),
    "restore.loaded": (1,),
    "restore.before-switch": (1, 3),
    "inplace.before-replacing": (1,),
    "database.restoring": (1,),
    "inplace.replaced": (1,),
    "renames.before-plan": (1, 2),
    "renames.planned": (1, 2),
    "renames.moved": (1, 3, 21),
    "renames.attributes-set": (1, 2),
    "restore.all-switched": (1,),
    "restore.before-kept": (1,),
    "restore.before-previous-is-dropped": (1,),
}
POINTS: dict[str, dict[str, tuple[int, ...]]] = {
    "backup": {
        "take.locked": (1,),
        "take.recorded": (1,),
        "take.staging": (1,),
        "take.before-snapshot": (1, 3),
        "dump.held": (1,),
        "dump.begun": (1,),
        "dump.ended": (1,),
        "dump.before-fingerprints": (1,),
        "take.after-snapshot": (1, 3),
        "take.before-pack": (1,),
        "driver.bytes-moved": (1, 5, 35),
        "take.packed": (1,),
        "take.before-check": (1,),
        "upload.before-archive": (1, 2),
        "store.before-rename": (1, 6),
        "store.after-rename": (1, 6),
        "upload.before-manifest": (1, 2),
        "upload.after-manifest": (1, 2),
        "take.before-annotations": (1, 2),
        "take.stored": (1,),
        "take.tidied": (1,),
        "take.finished": (1,),
    },
    "backup-streamed": {
        "take.locked": (1,),
        "take.recorded": (1,),
        "take.staging": (1,),
        "take.before-snapshot": (1, 2),
        "take.after-snapshot": (1, 2),
        "dump.held": (1,),
        "stream.begun": (1,),
        "take.before-pack": (1,),
        "driver.bytes-moved": (1, 15),
        "stream.piece": (1,),
        "stream.ended": (1,),
        "take.packed": (1,),
        "take.before-check": (1,),
        "upload.before-archive": (1, 2),
        "store.before-rename": (1, 6),
        "store.after-rename": (1, 6),
        "upload.before-manifest": (1, 2),
        "upload.after-manifest": (1, 2),
        "take.before-annotations": (1, 2),
        "take.stored": (1,),
        "take.tidied": (1,),
        "take.finished": (1,),
    },
    "restore": BESIDE,
    "restore-clean": IN_PLACE,
    "undo": {
        "renames.moved-back": (1, 3, 21),
        "renames.all-back": (1, 2),
        "database.before-back": (1,),
        "database.renaming": (1,),
        "database.back": (1,),
    },
    "undo-clean": {
        "renames.moved-back": (1, 21),
        "renames.all-back": (1, 2),
        "inplace.before-back": (1,),
        "database.restoring": (1,),
        "inplace.back": (1,),
    },
    "drill": {
        "drill.locked": (1,),
        "drill.prepared": (1,),
        "driver.bytes-moved": (1,),
        "drill.unpacked": (1,),
        "database.before-create": (1,),
        "database.created": (1,),
        "database.restoring": (1, 2, 4),
        "database.filled": (1,),
        "database.indexed": (1,),
        "drill.loaded": (1,),
        "drill.before-annotations": (1,),
        "store.before-rename": (1,),
        "store.after-rename": (1,),
    },
    "verify": {
        "verify.before-reading": (1, 4),
        "driver.bytes-moved": (1, 4),
        "verify.before-annotations": (1, 4),
        "store.before-rename": (1, 4),
        "store.after-rename": (1, 4),
    },
    "cleanup": {
        "prune.locked": (1,),
        "prune.before-backup": (1,),
        "remove.before-object": (1, 2, 6),
        "remove.after-objects": (1, 2),
        "prune.before-index": (1,),
        "index.before-rename": (1, 2),
        "index.after-rename": (1, 2),
    },
    "rebuild": {
        "index.before-rename": (1, 2),
        "index.after-rename": (1, 2),
    },
}
QUICK = {
    ("backup", "dump.begun", "KILL"),
    ("backup-streamed", "stream.piece", "KILL"),
    ("backup-streamed", "stream.ended", "TERM"),
    ("restore", "database.filled", "TERM"),
    ("restore", "database.renaming", "KILL"),
    ("restore", "database.switched", "KILL"),
    ("restore-clean", "inplace.replaced", "KILL"),
    ("restore-clean", "renames.moved", "TERM"),
    ("undo", "database.back", "KILL"),
    ("undo-clean", "inplace.before-back", "KILL"),
    ("drill", "database.filled", "KILL"),
}


def rows(*operations: str) -> list[Any]:
    return [
        pytest.param(
            operation,
            f"{point}#{time}",
            signal,
            id=f"{operation}-{signal}-{point}-{time}",
            marks=() if (operation, point, signal) in QUICK and time == 1 else (pytest.mark.slow,),
        )
        for operation in operations
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


@pytest.mark.parametrize(("operation", "point", "signal"), rows("backup", "backup-streamed"))
def test_a_backup_of_a_database_that_is_ended(database_setup: Any, operation: str, point: str, signal: str) -> None:
    rig = database_setup
    rig.place.configure(dump="stream" if operation == "backup-streamed" else "stage")
    end_at(rig, "backup", point, signal)
    rig.require_listed(point, signal)
    assert rig.living == rig.old
    rig.require_sound()
    if signal == "TERM":
        rig.require_tidy()
    taken = rig.again("backup")
    assert {(taken, "local"), (taken, "second")} <= rig.copies()
    assert rig.living == rig.old
    rig.require_tidy()


@pytest.mark.parametrize(("operation", "point", "signal"), rows("restore", "restore-clean"))
def test_a_restore_of_a_database_that_is_ended(database_setup: Any, operation: str, point: str, signal: str) -> None:
    """At once, the database by itself is whole; after any other run, database and files belong together."""
    rig = database_setup
    end_at(rig, operation, point, signal)
    new = rig.new_in_place if operation == "restore-clean" else rig.new
    assert tables(rig.living) in (tables(rig.old), tables(new)), "the database is a mixture"
    if signal == "KILL":
        rig.next_after(operation, point)
    rig.require_whole_living()
    rig.require_tidy(after_grace=True)
    if rig.living == rig.old:
        rig.again(operation)
    assert rig.living == new
    rig.require_tidy(after_grace=True)
    rig.again("undo")
    assert rig.living == rig.old
    rig.require_tidy(after_grace=True)


def tables(living: dict[str, object]) -> dict[str, object]:
    return {name: state for name, state in living.items() if name.startswith("table ")}


@pytest.mark.parametrize(("operation", "point", "signal"), rows("undo", "undo-clean"))
def test_an_undo_of_a_database_that_is_ended(database_setup: Any, operation: str, point: str, signal: str) -> None:
    rig = database_setup
    clean = operation == "undo-clean"
    rig.again("restore-clean" if clean else "restore")
    assert rig.living == (rig.new_in_place if clean else rig.new)
    end_at(rig, "undo", point, signal)
    rig.next_after("restore-clean" if clean else "restore", point)
    if rig.living != rig.old:
        rig.again("undo")
    assert rig.living == rig.old, "the previous data is kept until it is back"
    rig.require_tidy(after_grace=True)


WRITTEN = "UPDATE items SET title = 'written since' WHERE id = (SELECT min(id) FROM items)"
NEVER_OVER = [
    pytest.param("restore-clean", "database.restoring"),
    pytest.param("restore-clean", "inplace.replaced", marks=pytest.mark.slow),
    pytest.param("restore-clean", "restore.all-switched", marks=pytest.mark.slow),
    pytest.param("undo-clean", "database.restoring", marks=pytest.mark.slow),
    pytest.param("undo-clean", "inplace.back", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("operation", "point"), NEVER_OVER)
def test_what_was_written_after_a_kill_is_never_overwritten(database_setup: Any, operation: str, point: str) -> None:
    """Whether the program had committed when it was killed is seen afterwards. Where it is not the previous data that
    was written to, nobody can decide but the user: it is named."""
    rig = database_setup
    if operation == "undo-clean":
        rig.again("restore-clean")
    end_at(rig, operation.removesuffix("-clean") if operation == "undo-clean" else operation, f"{point}#1", "KILL")
    is_previous = tables(rig.living) == tables(rig.old)
    rig.place.ask(WRITTEN)
    if is_previous:
        rig.again("backup")
        assert differing(rig.living, rig.old) == ["table public.items"]
        rig.require_tidy(after_grace=True)
    else:
        for again in ("backup", "undo"):
            with pytest.raises(RestoreFailed, match=r"somebody has written to it since .*: public\.items; "):
                rig.again(again)
        (journal,) = (rig.settings.workspace_folder / "restores").glob("*.json")
        assert list((rig.place.folder / "unpacked").glob("*/former/part/*")), "the dump of before is kept"
        other = [name for name in differing(rig.living, rig.old) if not name.startswith("table ")]
        assert other == [], "the other parts are back"
        journal.unlink()  # the runbook, chapter 15
        rig.again("backup")
    assert rig.place.ask("SELECT count(*) FROM items WHERE title = 'written since'") == [(1,)]
    rig.old = rig.living  # compared above; the row itself wrote to it


@pytest.mark.parametrize(("operation", "point", "signal"), rows("drill"))
def test_a_drill_of_a_database_that_is_ended(database_setup: Any, operation: str, point: str, signal: str) -> None:
    rig = database_setup
    end_at(rig, operation, point, signal)
    assert rig.living == rig.old
    rig.again("drill")
    rig.again("cleanup")
    rig.require_sound(but={id for id, _ in rig.before} - {rig.newest})
    rig.require_tidy(after_grace=True)
    assert rig.databases() == {""}


@pytest.mark.parametrize(("operation", "point", "signal"), rows("verify", "rebuild"))
def test_looking_after_a_database_that_is_ended(database_setup: Any, operation: str, point: str, signal: str) -> None:
    rig = database_setup
    end_at(rig, operation, point, signal)
    rig.require_sound()
    assert rig.again(operation) == ("4" if operation == "rebuild" else "")
    assert rig.living == rig.old
    rig.require_tidy(after_grace=True)


@pytest.mark.slow
def test_a_drill_on_a_server_of_its_own_that_is_killed(database_setup: Any) -> None:
    """The server ends with us; the next drill of this kind, an hour later, removes its folder."""
    rig = database_setup
    with tempfile.TemporaryDirectory(prefix="scriptorium-test-") as name:
        temporary = Path(name)
        temporary.chmod(0o711)  # the server runs as another user, who must come in
        text = rig.place.config.read_text()
        rig.place.config.write_text(text.replace("jobs = 2", 'drill = "embedded", jobs = 2'))
        ended = rig.run("drill", {"drill.loaded": "KILL"}, TMPDIR=name)
        assert ended.status == -9, ended
        (left,) = temporary.glob("scriptorium-pg-*")
        until = time.monotonic() + 20
        while (left / "data" / "postmaster.pid").exists() and time.monotonic() < until:
            time.sleep(0.05)
        again = rig.run("drill", {}, TMPDIR=name)
        assert (again.status, again.stdout) == (0, "") and list(temporary.glob("scriptorium-pg-*")) == [left]
        os.utime(left, (0, 0))
        assert rig.run("drill", {}, TMPDIR=name).status == 0
        assert list(temporary.glob("scriptorium-pg-*")) == []
    assert rig.databases() == {""} and rig.living == rig.old
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize(("operation", "point", "signal"), rows("cleanup"))
def test_a_cleanup_beside_a_database_that_is_ended(
    database_setup: Any, operation: str, point: str, signal: str
) -> None:
    rig = database_setup
    rig.removed = {id for id, _ in rig.before} - {rig.newest}
    end_at(rig, operation, point, signal)
    rig.require_sound()
    rig.again("cleanup")
    assert rig.copies() == {(rig.newest, "local"), (rig.newest, "second")}
    assert rig.living == rig.old
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize(
    "operation", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("verify", "rebuild"))) for name in POINTS]
)
def test_every_point_of_a_database_is_in_the_matrix(database_setup: Any, operation: str) -> None:
    rig = database_setup
    run = operation.removesuffix("-streamed")
    if operation == "backup-streamed":
        rig.place.configure(dump="stream")
    if operation.startswith("undo"):
        rig.again(operation.replace("undo", "restore"))
        run = "undo"
    log = rig.place.folder / "reached"
    assert rig.run(run, {"*": f"log:{log}"}).status == 0
    if operation == "cleanup":
        rig.removed = {id for id, _ in rig.before} - {rig.newest}
    reached = Counter(instant.partition("#")[0] for instant in log.read_text().split())
    tried = {point: (min(times), max(times)) for point, times in POINTS[operation].items()}
    assert tried == {point: (1, count) for point, count in reached.items()}, "every point, its first and its last time"
