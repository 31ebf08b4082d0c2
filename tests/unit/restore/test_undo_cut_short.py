"""An undo is killed after a part is back, and the application writes to that part: the next undo finishes the others
and leaves what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import restore_setup
from killed_process import Kill, dying_before, killed
from restore_setup import Home, contents, in_place, recovered, state_of, supply_of

from scriptorium.errors import RestoreFailed
from scriptorium.fs.switch import StagingFolder
from scriptorium.operations.restore import restore
from scriptorium.operations.undo import plan_undo, preflight_undo, undo_restore
from scriptorium.requests import RestoreRequest, UndoRequest
from scriptorium.restore.journal import Journal

home, memory, tmp_path = restore_setup.home, restore_setup.memory, restore_setup.tmp_path  # fixtures

# The parts are put back in the order etc, conf, data. The journal is written when the undo begins, then when a part was
# found, and when it is back.
POINTS: dict[str, Kill] = {
    "a part is back, its folder is there": dying_before(StagingFolder, "remove", 1),
    "a part is back, its plan is there": dying_before(StagingFolder, "_forget_plan", 1),
    "all are back, the last plan is there": dying_before(StagingFolder, "_forget_plan", 3),
    "it is back, and not noted": dying_before(Journal, "enter", 3),
    "its folder is gone": dying_before(Journal, "enter", 4),
    "two are back": dying_before(StagingFolder, "remove", 2),
    "all are back": dying_before(StagingFolder, "remove", 3),
    "all are back, the journal is there": dying_before(Journal, "close", 1),
}


def written(home: Home) -> dict[str, bytes]:
    """What the application writes to every part that it finds."""
    new = {"etc/.env": b"SECRET=2", "app.conf": b"x = written since", "data/log/kept.txt": b"written since"}
    for path, content in new.items():
        (home.folder / path).write_bytes(content)
    (home.data / "since.txt").write_bytes(b"since")
    return {**new, "data/since.txt": b"since"}


def one_part_written(home: Home) -> dict[str, bytes]:
    (home.folder / "etc" / ".env").write_bytes(b"SECRET=2")
    return {"etc/.env": b"SECRET=2"}


@pytest.mark.parametrize("again", [undo_restore, lambda settings, _: recovered(settings)], ids=["undo", "recover"])
@pytest.mark.parametrize("point", POINTS)
def test_what_the_application_wrote_stays_and_the_rest_is_restored(home: Home, point: str, again) -> None:
    home.change()
    (home.folder / "etc" / ".env").write_bytes(b"SECRET=changed")
    settings, before = home.settings, contents(home.folder)
    in_place(settings, supply_of(settings))
    assert killed(lambda: undo_restore(settings, "lib"), POINTS[point])
    new = written(home) if point.startswith("all are") else one_part_written(home)
    rows = preflight_undo(settings, plan_undo(settings, UndoRequest())).rows
    assert not [row for row in rows if row.trouble is not None], rows
    again(settings, "lib")
    assert contents(home.folder) == before | new
    assert recovered(settings) == () and not list(home.folder.rglob(".scriptorium-restore-*"))
    restore(settings, RestoreRequest(reference="latest", safety=False))  # and the library goes on


@pytest.mark.parametrize("point", ["a part is back, its folder is there", "two are back"])
def test_it_may_be_killed_again_and_again(home: Home, point: str) -> None:
    home.change()
    (home.folder / "etc" / ".env").write_bytes(b"SECRET=changed")
    settings, before = home.settings, contents(home.folder)
    in_place(settings, supply_of(settings))
    assert killed(lambda: undo_restore(settings, "lib"), POINTS[point])
    new = one_part_written(home)
    assert killed(lambda: undo_restore(settings, "lib"), dying_before(Journal, "close", 1))
    undo_restore(settings, "lib")
    assert contents(home.folder) == before | new


def test_a_part_that_was_not_put_back_is_still_compared(home: Home) -> None:
    """The folder of the killed undo is taken away before its part is back: what is written does not hide that."""
    home.change()
    settings = home.settings
    in_place(settings, supply_of(settings))
    assert killed(lambda: undo_restore(settings, "lib"), POINTS["two are back"])
    staging = next(home.folder.rglob(".scriptorium-restore-*-data"))
    staging.rename(home.folder / "taken")
    written(home)
    with pytest.raises(RestoreFailed, match="not back in every part: data: ") as caught:
        undo_restore(settings, "lib")
    assert "conf" in caught.value.hint
    assert (home.folder / "app.conf").read_bytes() == b"x = written since"


@pytest.mark.parametrize("action", ["the plan", "the plan and what was put aside"])
def test_a_plan_that_somebody_removed_is_no_undo(home: Home, action: str) -> None:
    home.change()
    settings = home.settings
    in_place(settings, supply_of(settings))
    assert killed(lambda: undo_restore(settings, "lib"), POINTS["two are back"])
    staging = next(home.folder.rglob(".scriptorium-restore-*-data"))
    (staging / "moves.json").unlink()
    if action != "the plan":
        for path in (one for one in (staging / "former").rglob("*") if not one.is_dir()):
            path.unlink()
    with pytest.raises(RestoreFailed, match="not back in every part: data: "):
        undo_restore(settings, "lib")


def test_fingerprints_of_a_killed_undo_are_those_of_before(home: Home) -> None:
    """Modes, owners and times, where nothing was written."""
    home.change()
    settings, before = home.settings, state_of(home.folder)
    in_place(settings, supply_of(settings))
    assert killed(lambda: undo_restore(settings, "lib"), POINTS["two are back"])
    undo_restore(settings, "lib")
    assert {path: one for path, one in state_of(home.folder).items() if Path(path).name != "taken"} == before
