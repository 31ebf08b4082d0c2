"""A restore is killed, and somebody moves, renames or removes the previous data: an undo by another process names
exactly the parts that are not put back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import restore_setup
from killed_process import dying_before, killed
from restore_setup import Home, in_place, recovered, state_of, supply_of

from scriptorium.errors import RestoreFailed
from scriptorium.fs.places import Places
from scriptorium.fs.switch import StagingFolder
from scriptorium.operations.restore import restore
from scriptorium.operations.undo import plan_undo, preflight_undo, undo_restore
from scriptorium.requests import RestoreRequest, UndoRequest
from scriptorium.restore.journal import Journal

home, memory, tmp_path = restore_setup.home, restore_setup.memory, restore_setup.tmp_path  # fixtures
Action = Callable[[Path, Home], None]
TAKEN = "taken"


def renamed(staging: Path, home: Home) -> None:
    staging.rename(home.folder / TAKEN)


def moved_into_the_library(staging: Path, home: Home) -> None:
    staging.rename(home.data / TAKEN)


def removed(staging: Path, home: Home) -> None:
    shutil.rmtree(staging)


def another_in_its_place(staging: Path, home: Home) -> None:
    staging.rename(home.folder / TAKEN)
    staging.mkdir(mode=0o700)


def previous_data_removed(staging: Path, home: Home) -> None:
    shutil.rmtree(staging / "former")


def previous_data_renamed(staging: Path, home: Home) -> None:
    (staging / "former").rename(staging / "were")


def plan_removed(staging: Path, home: Home) -> None:
    (staging / "moves.json").unlink()


def one_file_changed(staging: Path, home: Home) -> None:
    (staging / "former" / "notes.txt" / "x").write_bytes(b"not what it was")


ACTIONS: list[Action] = [
    renamed,
    moved_into_the_library,
    removed,
    another_in_its_place,
    previous_data_removed,
    previous_data_renamed,
    plan_removed,
    one_file_changed,
]
NOTHING_IS_MOVED = dying_before(StagingFolder, "apply", 1)
POINTS = {
    "one path is moved": dying_before(Places, "rename", 4),
    "some are moved": dying_before(Places, "rename", 12),
    "one part of three": dying_before(StagingFolder, "write_plan", 2),
    "all parts, not recorded yet": dying_before(Journal, "enter", 5),
    "all parts": dying_before(Journal, "enter", 6),
}


def staging_of(home: Home) -> Path:
    return next(home.folder.rglob(".scriptorium-restore-*-data"))


def living(home: Home) -> dict[str, tuple[object, ...]]:
    return {path: one for path, one in state_of(home.folder).items() if TAKEN not in path.split("/")}


def everything(home: Home) -> dict[str, tuple[object, ...]]:
    return {path: one for path, one in state_of(home.folder, ours=True).items() if "backups" not in path}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_the_part_that_is_not_back_is_named(home: Home, point: str, action: Action) -> None:
    home.change()
    settings, before = home.settings, living(home)
    supply = supply_of(settings)
    assert killed(lambda: in_place(settings, supply), POINTS[point])
    staging = staging_of(home)
    if action is one_file_changed and not (staging / "former" / "notes.txt").exists():
        pytest.skip("it was not moved yet")
    action(staging, home)
    with pytest.raises(RestoreFailed) as caught:
        undo_restore(settings, "lib")
    message = str(caught.value)
    assert "not back in every part: data: " in message and "conf: " not in message and "etc: " not in message
    assert caught.value.hint.startswith("back: ") and "conf" in caught.value.hint
    assert before["app.conf"] == living(home)["app.conf"]
    with pytest.raises(RestoreFailed, match="not back in every part: data: "):  # and the next run reports the same
        recovered(settings)


@pytest.mark.parametrize("action", [renamed, removed], ids=lambda action: action.__name__)
def test_what_was_never_moved_is_back_whatever_became_of_the_folder(home: Home, action: Action) -> None:
    home.change()
    settings, before = home.settings, living(home)
    assert killed(lambda: in_place(settings, supply_of(settings)), NOTHING_IS_MOVED)
    action(staging_of(home), home)
    assert len(recovered(settings)) == 1 and living(home) == before and recovered(settings) == ()


def test_a_plan_reports_it_first_and_what_is_restored_is_put_back(home: Home) -> None:
    home.change()
    settings, before = home.settings, living(home)
    assert killed(lambda: in_place(settings, supply_of(settings)), POINTS["some are moved"])
    staging = staging_of(home)
    renamed(staging, home)
    rows = {row.what: row for row in preflight_undo(settings, plan_undo(settings, UndoRequest())).rows}
    assert rows["previous data of data"].trouble is not None and staging.name in rows["previous data of data"].found
    with pytest.raises(RestoreFailed):
        undo_restore(settings, "lib")
    (home.folder / "app.conf").write_bytes(b"changed since it is back")
    (home.folder / TAKEN).rename(staging)
    undo_restore(settings, "lib")
    after = living(home)
    assert after.pop("app.conf")[4] == b"changed since it is back" and before.pop("app.conf")
    assert after == before and recovered(settings) == ()


def test_given_up_by_removing_the_journal_the_library_continues(home: Home) -> None:
    home.change()
    settings = home.settings
    assert killed(lambda: in_place(settings, supply_of(settings)), POINTS["all parts"])
    removed(staging_of(home), home)
    with pytest.raises(RestoreFailed) as caught:
        recovered(settings)
    journal = caught.value.hint.rpartition(" remove ")[2].partition(" (the runbook")[0]
    Path(journal).unlink()
    assert recovered(settings) == ()
    restore(settings, RestoreRequest(reference="latest", safety=False))


def test_a_restore_that_fails_reports_it_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the process that restores: its staging folder is held open, so only what is in it can be lost."""
    home.change()

    def unwell() -> None:
        shutil.rmtree(staging_of(home) / "former" / "covers")
        raise RestoreFailed("the application does not work")

    restore_setup.ask_health(home, monkeypatch, unwell)
    with pytest.raises(RestoreFailed, match="not back in every part: data: "):
        in_place(home.settings, supply_of(home.settings))
    with pytest.raises(RestoreFailed, match="not back in every part: data: "):
        recovered(home.settings)


@pytest.mark.parametrize("path", ["log/kept.txt", os.fsdecode(b"\xff.txt")])
@pytest.mark.parametrize("action", ["changed", "removed"])
def test_previous_data_that_is_not_whole_is_refused_before_anything_is_moved(
    home: Home, path: str, action: str
) -> None:
    """Of a completed restore; the living data is by chance equal to the previous data."""
    in_place(home.settings, supply_of(home.settings))
    previous = next(home.folder.rglob(".scriptorium-restore-*-data")) / "former" / path
    previous.unlink() if action == "removed" else previous.write_bytes(b"not what it was")
    before = everything(home)
    rows = {row.what: row for row in preflight_undo(home.settings, plan_undo(home.settings, UndoRequest())).rows}
    assert rows["previous data of data"].trouble is not None
    with pytest.raises(RestoreFailed, match="so nothing was changed"):
        undo_restore(home.settings, "lib")
    assert everything(home) == before


def test_a_link_in_place_of_the_library_is_reported_before_anything_is_moved(home: Home) -> None:
    home.change()
    in_place(home.settings, supply_of(home.settings))
    home.data.rename(home.folder / "moved")
    home.data.symlink_to("moved")
    rows = {row.what: row for row in preflight_undo(home.settings, plan_undo(home.settings, UndoRequest())).rows}
    assert "a link leads there" in rows["previous data of data"].found
    with pytest.raises(RestoreFailed, match="so nothing was changed"):
        undo_restore(home.settings, "lib")
