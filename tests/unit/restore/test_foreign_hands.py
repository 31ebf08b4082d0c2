"""The owner of a library renames and links files in it while root restores it: nothing outside changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import restore_setup
from restore_setup import FolderState, Home, in_place, recovered, state_of, supply_of

from scriptorium import failpoints, workspace
from scriptorium.errors import ScriptoriumError, Untrusted
from scriptorium.fs import switch
from scriptorium.manifest import new_id
from scriptorium.restore import in_place as in_place_module
from scriptorium.restore import into_folder, restore_into, rollback, undo

SOMEBODY = 4711
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose to other users")
home, memory, tmp_path = restore_setup.home, restore_setup.memory, restore_setup.tmp_path  # fixtures
Action = Callable[[Home, Path], None]


@pytest.fixture
def canary(home: Home) -> Path:
    """Files of root, with the names that are looked for in the library; the library belongs to another user."""
    folder = home.folder.parent / "root"
    for name in ("content", "covers", "uploads", "former", "incoming", "deep/covers", "incoming/content"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.jpg").write_bytes(b"root's")
        (folder / name / "notes.txt").write_bytes(b"root's")
    folder.chmod(0o700)
    for path in (home.data, *home.data.rglob("*"), home.folder / "app.conf", home.folder / "etc"):
        if "backups" not in path.parts:
            os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
    os.chown(home.folder, SOMEBODY, SOMEBODY)
    return folder


def stagings(home: Home) -> list[Path]:
    return [*home.folder.glob(".scriptorium-restore-*-data"), *home.data.glob(".scriptorium-restore-*-data")]


def link_in_place_of(path: Path, target: Path) -> None:
    """As that user does it: the original keeps its owner under another name."""
    path.rename(path.with_name(f"away-{path.name}"))
    path.symlink_to(target)
    os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)


def staging_is_a_link(home: Home, canary: Path) -> None:
    for staging in stagings(home):
        link_in_place_of(staging, canary)


def staging_is_somebodys(home: Home, canary: Path) -> None:
    """With links where ours has folders."""
    for staging in stagings(home):
        staging.rename(staging.with_name("away-staging"))
        staging.mkdir(mode=0o700)
        for name in ("incoming", "former"):
            (staging / name).symlink_to(canary / name)
            os.chown(staging / name, SOMEBODY, SOMEBODY, follow_symlinks=False)
        os.chown(staging, SOMEBODY, SOMEBODY)


def staging_is_another_of_roots(home: Home, canary: Path) -> None:
    """A folder of root's that lies in the library gets the name."""
    for staging in stagings(home):
        staging.rename(staging.with_name("away-staging"))
        (home.folder / "precious").rename(staging)


def covers_are_a_link(home: Home, canary: Path) -> None:
    if (home.data / "covers").exists():
        link_in_place_of(home.data / "covers", canary / "covers")


def data_is_a_link(home: Home, canary: Path) -> None:
    link_in_place_of(home.data, canary)


ACTIONS: list[Action] = [
    staging_is_a_link,
    staging_is_somebodys,
    staging_is_another_of_roots,
    covers_are_a_link,
    data_is_a_link,
]
POINTS = ["restore.part-prepared", "restore.unpacked", "restore.loaded", "renames.planned", "renames.moved"]


def at(patch: pytest.MonkeyPatch, point: str, action: Callable[[], None]) -> list[str]:
    """``action`` is called once, when that point is reached."""
    done: list[str] = []

    def reach(name: str) -> None:
        if name == point and not done:
            done.append(name)
            action()
        failpoints.reach(name)

    for module in (in_place_module, rollback, switch):
        patch.setattr(module, "reach", reach)
    return done


def precious(home: Home) -> Path:
    """A folder of root's in somebody's library, such as a store."""
    folder = home.folder / "precious"
    folder.mkdir(mode=0o700)
    (folder / "only copy").write_bytes(b"root's")
    return folder


def roots(folder: Path) -> FolderState:
    """The files of root there: none is removed or changed."""
    return state_of(folder, ours=True)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize("point", POINTS)
def test_a_restore_in_place_in_the_library_of_another_user(
    home: Home, canary: Path, monkeypatch: pytest.MonkeyPatch, action: Action, point: str
) -> None:
    if action is staging_is_another_of_roots:
        precious(home)
    before = roots(canary)
    with monkeypatch.context() as patch:
        done = at(patch, point, lambda: action(home, canary))
        try:
            in_place(home.settings, supply_of(home.settings))
        except (ScriptoriumError, OSError) as error:
            assert "root's" not in str(error)
    assert done == [point]
    assert roots(canary) == before
    try:
        recovered(home.settings)
    except (ScriptoriumError, OSError) as error:
        assert "root's" not in str(error)
    assert roots(canary) == before
    if action is staging_is_another_of_roots:
        assert [path.read_bytes() for path in home.folder.rglob("only copy")] == [b"root's"]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize("how", ["undo", "undo: while it moves", "drop"])
def test_an_undo_in_the_library_of_another_user(
    home: Home, canary: Path, monkeypatch: pytest.MonkeyPatch, action: Action, how: str
) -> None:
    home.change()
    in_place(home.settings, supply_of(home.settings))
    if action is staging_is_another_of_roots:
        precious(home)
    settings, library, before = home.settings, home.settings.library(), roots(canary)
    with monkeypatch.context() as patch, workspace.lock(settings, library.name, "test"):
        if how == "undo: while it moves":
            at(patch, "renames.moved-back", lambda: action(home, canary))
        else:
            action(home, canary)
        try:
            if how == "drop":
                rollback.drop(rollback.newest_kept(settings, library), library)
            else:
                undo(settings, library)
        except (ScriptoriumError, OSError) as error:
            assert "root's" not in str(error)
    assert roots(canary) == before
    if action is staging_is_another_of_roots:
        assert [path.read_bytes() for path in home.folder.rglob("only copy")] == [b"root's"]


def test_a_plan_that_names_what_is_not_the_librarys_is_not_carried_out(home: Home, canary: Path) -> None:
    staging = switch.StagingFolder.beside(home.folder, "0123456789ab-data", (home.data,))
    staging.create()
    before = roots(canary)
    for plan in (
        [switch.Move(canary / "covers", home.data / "mine")],
        [switch.Move(home.data / "covers", canary / "mine")],
        [switch.Move(home.data / "../../root/covers", home.data / "mine")],
    ):
        staging.write_plan(plan)
        for attempt in (staging.apply, staging.revert):
            with pytest.raises(Untrusted):
                attempt()
    assert roots(canary) == before


def test_a_root_that_is_a_link_to_what_is_not_its_makers_is_refused(home: Home, canary: Path) -> None:
    link_in_place_of(home.data / "covers", canary / "covers")
    source, before = home.settings.library().sources[0], roots(canary)
    part = next(part for part in supply_of(home.settings).manifest.parts if part.source == source.name)
    link_in_place_of(home.data, canary)
    with pytest.raises(Untrusted):
        source.incoming(part, "0123456789ab")
    assert roots(canary) == before


# -- into a folder, beside which others may write


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """As ``/tmp`` is."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def planted(folder: Path) -> Path:
    """A folder that somebody made for us to take over."""
    folder.mkdir(parents=True)
    (folder / "planted").write_bytes(b"somebody's")
    for path in (folder, folder / "planted"):
        os.chown(path, SOMEBODY, SOMEBODY)
    folder.chmod(0o777)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        ".scriptorium-former-0123456789ab-look",
        ".scriptorium-former-0123456789ab/look",
        ".scriptorium-former-0123456789ab",
        ".scriptorium-restore-0123456789ab",
    ],
)
def test_what_somebody_planted_beside_the_target_is_not_taken_over(home: Home, shared: Path, name: str) -> None:
    folder = planted(shared / name)
    if folder.parent != shared:
        os.chown(folder.parent, SOMEBODY, SOMEBODY)
        (folder.parent / "scriptorium.json").write_text('{"scriptorium": "restore", "id": "0123456789ab"}')
    before = state_of(shared, ours=True)
    restored = restore_into(supply_of(home.settings), shared / "look", new_id())
    found = (shared / "look").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o700) and restored.warnings == ()
    after = state_of(shared, ours=True)
    assert {path: after.get(path) for path in before if path != "."} == {k: v for k, v in before.items() if k != "."}


def test_a_target_that_another_user_made_gives_nobody_access(home: Home, shared: Path) -> None:
    planted(shared / "look")
    restored = restore_into(supply_of(home.settings), shared / "look", new_id(), clean=True)
    found = (shared / "look").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o700)
    assert len(restored.warnings) == 1 and f"to user {SOMEBODY}" in restored.warnings[0]
    assert not list(shared.glob(".scriptorium-*"))


def test_a_target_that_was_made_ready_for_somebody_stays_theirs(home: Home, tmp_path: Path) -> None:
    (tmp_path / "ready").mkdir(mode=0o750)
    os.chown(tmp_path / "ready", SOMEBODY, SOMEBODY)
    restored = restore_into(supply_of(home.settings), tmp_path / "ready", new_id())
    found = (tmp_path / "ready").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (SOMEBODY, 0o750) and restored.warnings == ()


@pytest.mark.parametrize("what", ["link", "folder"])
@pytest.mark.parametrize("when", ["_read", "_put"])
def test_the_stage_is_swapped_while_it_is_filled(
    home: Home, canary: Path, monkeypatch: pytest.MonkeyPatch, what: str, when: str
) -> None:
    """In a folder of another user: this user may damage the target, but nothing outside it."""
    theirs = home.folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, SOMEBODY, SOMEBODY)
    before, real = roots(canary), getattr(into_folder, when)

    def swapped(*args: object) -> object:
        for stage in theirs.glob(".scriptorium-restore-*"):
            link_in_place_of(stage, canary)
            if what == "folder":
                stage.unlink()
                planted(stage)
                for name in ("data", "etc"):
                    (stage / name).symlink_to(canary)
                    os.chown(stage / name, SOMEBODY, SOMEBODY, follow_symlinks=False)
        return real(*args)

    monkeypatch.setattr(into_folder, when, swapped)
    with suppress(ScriptoriumError, OSError):
        restore_into(supply_of(home.settings), theirs / "look", new_id())
    assert roots(canary) == before
