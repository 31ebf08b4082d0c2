"""Switching by renames: after a crash at any point, the previous data is put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptorium.errors import RestoreFailed, Untrusted
from scriptorium.fs.places import Places
from scriptorium.fs.switch import AttributeCopy, Move, StagingFolder


@pytest.fixture
def living(tmp_path: Path) -> Path:
    folder = tmp_path / "living"
    (folder / "sub").mkdir(parents=True)
    for name in ("one", "two", "sub/three"):
        (folder / name).write_text(f"previous {name}")
    return folder


@pytest.fixture
def staging(living: Path) -> StagingFolder:
    staging = StagingFolder.beside(living, "0123456789ab")
    staging.create()
    for name in ("one", "new"):
        (staging.incoming / name).write_text(f"restored {name}")
    return staging


def plan(living: Path, staging: StagingFolder) -> list[Move]:
    """``one`` is replaced, ``two`` and ``sub`` are removed, ``new`` is added."""
    return [
        Move(living / "one", staging.previous / "one"),
        Move(staging.incoming / "one", living / "one"),
        Move(living / "two", staging.previous / "two"),
        Move(living / "sub", staging.previous / "deep" / "sub"),
        Move(staging.incoming / "new", living / "new"),
    ]


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "/"
        for path in folder.rglob("*")
        if ".scriptorium-" not in str(path.relative_to(folder))
    }


PREVIOUS = {"one": "previous one", "two": "previous two", "sub": "/", "sub/three": "previous sub/three"}
SWITCHED = {"one": "restored one", "new": "restored new"}


def test_a_switch_that_is_carried_out_and_settled_leaves_nothing(living: Path, staging: StagingFolder) -> None:
    staging.write_plan(plan(living, staging))
    assert staging.planned
    staging.apply()
    assert content(living) == SWITCHED
    assert (staging.previous / "deep" / "sub" / "three").read_text() == "previous sub/three"
    staging.apply()  # again changes nothing
    staging.settle()
    assert content(living) == SWITCHED and not staging.path.exists()


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Renames end in a crash once the number in the list has been used up (-1: never)."""
    left = [-1]
    real = Places.rename

    def rename(self: Places, source: Path, target: Path) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, source, target)

    monkeypatch.setattr(Places, "rename", rename)
    yield left


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("back", range(6))
def test_a_switch_is_undone_from_every_step(
    living: Path, staging: StagingFolder, stopping: list[int], steps: int, back: int
) -> None:
    """The crash at step ``steps`` of the switch, a second one at step ``back`` of its undoing."""
    staging.write_plan(plan(living, staging))
    stopping[0] = steps
    if steps < 5:
        with pytest.raises(KeyboardInterrupt):
            staging.apply()
    else:
        staging.apply()
    again = StagingFolder(staging.path)
    assert again.planned
    stopping[0] = back
    if back < steps:
        with pytest.raises(KeyboardInterrupt):
            again.revert()
        assert StagingFolder(staging.path).planned, "the plan stays until everything is back"
    stopping[0] = -1
    StagingFolder(staging.path).revert()
    assert content(living) == PREVIOUS
    staging.remove()
    assert list(living.parent.iterdir()) == [living] and not staging.path.exists()


@pytest.mark.parametrize("steps", range(5))
def test_what_was_left_of_a_switch_can_be_carried_out(
    living: Path, staging: StagingFolder, stopping: list[int], steps: int
) -> None:
    staging.write_plan(plan(living, staging))
    stopping[0] = steps
    with pytest.raises(KeyboardInterrupt):
        staging.apply()
    stopping[0] = -1
    StagingFolder(staging.path).apply()
    assert content(living) == SWITCHED


@pytest.mark.parametrize("steps", range(1, 6))
def test_what_the_application_made_meanwhile_is_neither_lost_nor_in_the_way(
    living: Path, staging: StagingFolder, stopping: list[int], steps: int
) -> None:
    """The application was started after the crash, did not find its file and wrote a new one."""
    staging.write_plan(plan(living, staging))
    stopping[0] = steps
    if steps < 5:
        with pytest.raises(KeyboardInterrupt):
            staging.apply()
    else:
        staging.apply()
    stopping[0] = -1
    made = [name for name in ("one", "two", "sub") if not (living / name).exists()]
    for name in made:
        (living / name).write_text("made meanwhile")
    again = StagingFolder(staging.path)
    if made and steps < 5:
        with pytest.raises(RestoreFailed, match="has appeared"):
            again.apply()
    again.revert()
    again.remove()
    assert content(living) == PREVIOUS
    asides = list(living.glob(".scriptorium-aside-0123456789ab/[0-9]*"))
    assert [path.read_text() for path in asides] == ["made meanwhile"] * len(made)
    assert not staging.path.exists()


def test_previous_data_that_vanished_is_reported_and_the_plan_stays(living: Path, staging: StagingFolder) -> None:
    staging.write_plan(plan(living, staging))
    staging.apply()
    (staging.previous / "two").unlink()
    with pytest.raises(RestoreFailed, match="is gone"):
        staging.revert()
    assert (living / "one").read_text() == "previous one" and (living / "sub" / "three").exists()
    assert staging.planned
    with pytest.raises(RestoreFailed, match="neither finished nor undone"):
        staging.remove()


def test_what_was_to_come_and_vanished_stops_the_switch(living: Path, staging: StagingFolder) -> None:
    staging.write_plan(plan(living, staging))
    (staging.incoming / "new").unlink()
    with pytest.raises(RestoreFailed, match="is gone"):
        staging.apply()
    staging.revert()
    assert content(living) == PREVIOUS


def test_a_staging_folder_that_holds_previous_data_is_never_emptied(living: Path, staging: StagingFolder) -> None:
    staging.write_plan(plan(living, staging))
    staging.apply()
    for attempt in (staging.create, staging.remove):
        with pytest.raises(RestoreFailed):
            attempt()
    staging.revert()
    staging.create()
    assert content(living) == PREVIOUS and list(staging.incoming.iterdir()) == []


def test_reverting_what_never_began_changes_nothing(living: Path, staging: StagingFolder) -> None:
    staging.revert()
    assert content(living) == PREVIOUS


def test_a_plan_that_was_torn_by_a_crash_is_ignored(living: Path, staging: StagingFolder) -> None:
    (staging.path / "moves.partial").write_bytes(b'{"moves": [["')
    assert not staging.planned
    staging.revert()
    staging.remove()
    assert content(living) == PREVIOUS


def test_folders_that_stay_take_another_s_mode_and_give_it_back(living: Path, staging: StagingFolder) -> None:
    like = staging.incoming / "sub"
    like.mkdir()
    like.chmod(0o2751)
    (living / "sub").chmod(0o700)
    if os.geteuid() == 0:
        os.chown(like, 1234, 2345)
        like.chmod(0o2751)
    staging.write_plan([Move(living / "one", staging.previous / "one")], [AttributeCopy(living / "sub", like)])
    staging.apply()
    found = (living / "sub").stat()
    assert found.st_mode & 0o7777 == 0o2751
    assert os.geteuid() != 0 or (found.st_uid, found.st_gid) == (1234, 2345)
    staging.revert()
    back = (living / "sub").stat()
    assert (back.st_mode & 0o7777, back.st_uid, back.st_gid) == (0o700, os.geteuid(), os.getegid())


def test_names_that_are_not_utf_8_survive_the_plan(living: Path, staging: StagingFolder) -> None:
    odd = os.fsdecode(b"\xff\xfe \n\"'\\")
    (living / odd).write_text("previous")
    (staging.incoming / odd).write_text("restored")
    staging.write_plan([Move(living / odd, staging.previous / odd), Move(staging.incoming / odd, living / odd)])
    staging.apply()
    assert (living / odd).read_text() == "restored"
    StagingFolder(staging.path).revert()
    assert (living / odd).read_text() == "previous"


def test_whatever_the_umask_the_plan_is_ours_alone_and_believed(living: Path, tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        staging = StagingFolder.beside(living, "ba9876543210")
        staging.create()
        (staging.incoming / "one").write_text("restored one")
        staging.write_plan(
            [Move(living / "one", staging.previous / "one"), Move(staging.incoming / "one", living / "one")]
        )
    finally:
        os.umask(old_mask)
    assert (staging.path / "moves.json").stat().st_mode & 0o777 == 0o600
    staging.apply()
    (staging.path / "moves.json").chmod(0o664)  # as an earlier version wrote it
    staging.revert()
    assert content(living) == PREVIOUS


def test_a_folder_that_others_may_write_is_not_carried_out(living: Path, staging: StagingFolder) -> None:
    staging.write_plan(plan(living, staging))
    staging.path.chmod(0o777)
    for attempt in (staging.apply, staging.revert, staging.settle, staging.remove):
        with pytest.raises(Untrusted):
            attempt()
    assert content(living) == PREVIOUS
