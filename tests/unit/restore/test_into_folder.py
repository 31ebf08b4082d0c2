"""Restores into a folder, with every crash, damage and obstacle."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import restore_setup
from killed_process import dying_before, killed
from restore_setup import (
    SAVED,
    Home,
    contents,
    damage,
    saved,
    state_of,
    supply_of,
)

from scriptorium.errors import DamageFound, NoSpace, NotFound, RestoreFailed, UsageError
from scriptorium.fs.places import Places
from scriptorium.manifest import new_id
from scriptorium.restore import into_folder, restore_into

home, memory, tmp_path = restore_setup.home, restore_setup.memory, restore_setup.tmp_path  # fixtures of these tests


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "deeper than anything"])
def test_into_a_folder_everything_is_as_in_the_archive(home: Home, tmp_path: Path, there: str) -> None:
    target = tmp_path / "a" / "b" / "out" if there.startswith("deeper") else tmp_path / "out"
    if there == "an empty folder":
        target.mkdir(mode=0o750)
    expected = saved(home)
    home.change()
    living = state_of(home.folder)
    restored = restore_into(supply_of(home.settings), target, new_id())
    assert contents(target) == expected
    assert (target / "data" / "covers" / "again.jpg").samefile(target / "data" / "covers" / "a.jpg")
    assert stat.S_IMODE((target / "data" / "empty").stat().st_mode) == 0o751
    assert stat.S_IMODE((target / ".env").stat().st_mode) == 0o600
    assert os.readlink(target / "data" / "link") == "../app.conf"  # noqa: PTH115
    assert stat.S_IMODE(target.stat().st_mode) == (0o750 if there == "an empty folder" else 0o700)
    assert (restored.place, restored.parts, restored.warnings) == (str(target), ("data", "conf", "etc"), ())
    assert restored.files == len(expected) + 1 and restored.bytes == sum(map(len, expected.values())) - 40_000
    assert state_of(home.folder) == living and not list(tmp_path.glob("**/.scriptorium-*"))


def test_a_folder_that_holds_something_is_not_touched_without_clean(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "deep").mkdir(parents=True)
    (target / "deep" / "precious").write_bytes(b"p")
    target.chmod(0o755)
    supply = supply_of(home.settings)
    before = state_of(tmp_path)
    with pytest.raises(UsageError) as caught:
        restore_into(supply, target, new_id())
    assert "--clean" in caught.value.hint and state_of(tmp_path) == before
    restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert contents(target) == saved(home) and not (target / "deep").exists()
    assert stat.S_IMODE(target.stat().st_mode) == 0o755, "a folder that somebody made ready keeps its mode"
    assert not list(tmp_path.glob(".scriptorium-*"))


@pytest.mark.parametrize("kind", ["file", "symlink", "dangling", "below a file"])
def test_what_is_no_folder_is_refused(home: Home, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind in ("file", "below a file"):
        target.write_bytes(b"p")
    else:
        target.symlink_to(tmp_path if kind == "symlink" else tmp_path / "nowhere")
    before = state_of(tmp_path)
    with pytest.raises(UsageError):
        restore_into(supply_of(home.settings), target / "x" if kind == "below a file" else target, new_id(), clean=True)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("what", ["the store", "above the store", "the living data", "above it"])
def test_stores_and_living_data_are_not_replaced_by_a_folder(home: Home, what: str) -> None:
    target = {
        "the store": home.data / "backups",
        "above the store": home.data,
        "the living data": home.folder / "etc",
        "above it": home.folder,
    }[what]
    never = (*home.settings.never, home.folder / "etc")
    supply = supply_of(home.settings)
    before = state_of(home.folder, ours=True)
    with pytest.raises(UsageError, match="is, or contains"):
        restore_into(supply, target, new_id(), clean=True, never=never)
    assert state_of(home.folder, ours=True) == before


@pytest.mark.parametrize("there", [False, True])
def test_damage_leaves_the_target_as_it_was(home: Home, tmp_path: Path, there: bool) -> None:
    target = tmp_path / "out"
    if there:
        target.mkdir()
        (target / "precious").write_bytes(b"p")
    damage(home)
    supply = supply_of(home.settings)
    before = state_of(tmp_path, ours=True)
    with pytest.raises(DamageFound):
        restore_into(supply, target, new_id(), clean=True)
    assert state_of(tmp_path, ours=True) == before


def test_an_archive_that_is_gone_leaves_the_target_as_it_was(home: Home, tmp_path: Path) -> None:
    supply = supply_of(home.settings)
    home.settings.store("local").objects.delete(supply.key)
    before = state_of(tmp_path, ours=True)
    with pytest.raises(NotFound):
        restore_into(supply, tmp_path / "out", new_id())
    assert state_of(tmp_path, ours=True) == before


@pytest.mark.parametrize("fails", [1, 2])
def test_a_switch_that_fails_puts_the_previous_folder_back(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "precious").write_bytes(b"p")
    before = state_of(tmp_path, ours=True)
    real, left = Places.rename, [fails]

    def rename(self: Places, source: Path, goal: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        real(self, source, goal)

    with monkeypatch.context() as patch:
        patch.setattr(Places, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert state_of(tmp_path, ours=True) == before


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    mounted: list[Path] = []

    def mount(at: Path, *how: str) -> Path:
        at.mkdir(exist_ok=True, parents=True)
        command = ["mount", *(how or ("-t", "tmpfs", "tmpfs")), str(at)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting needs root, where mounting is allowed")
        mounted.append(at)
        return at

    yield mount
    for at in reversed(mounted):
        subprocess.run(["umount", str(at)], check=True)


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_into_a_filesystem_of_its_own(home: Home, tmp_path: Path, mount: Callable[..., Path], kind: str) -> None:
    (tmp_path / "real").mkdir()
    target = mount(tmp_path / "out", *(() if kind == "tmpfs" else ("--bind", str(tmp_path / "real"))))
    restore_into(supply_of(home.settings), target, new_id())
    assert contents(target) == saved(home)
    (target / "late").write_bytes(b"l")
    restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert contents(target) == saved(home) and not list(tmp_path.glob("**/.scriptorium-*"))
    damage(home)
    (target / "late").write_bytes(b"l")
    before = state_of(target, ours=True)
    with pytest.raises(DamageFound):
        restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert state_of(target, ours=True) == before


def test_a_switch_that_fails_inside_a_filesystem_of_its_own_is_taken_back(
    home: Home, tmp_path: Path, mount: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = mount(tmp_path / "out")
    for name in ("a", "b"):
        (target / name).write_bytes(b"p")
    before = state_of(target, ours=True)
    real = Places.rename
    for stop in range(1, 6):
        left = [stop]

        def rename(self: Places, source: Path, goal: Path) -> None:
            left[0] -= 1  # noqa: B023
            if left[0] == 0:  # noqa: B023
                raise OSError(5, "Input/output error")
            real(self, source, goal)

        with monkeypatch.context() as patch:
            patch.setattr(Places, "rename", rename)
            with pytest.raises(RestoreFailed):
                restore_into(supply_of(home.settings), target, new_id(), clean=True)
        assert state_of(target, ours=True) == before


def test_what_is_mounted_inside_the_target_is_never_removed_with_it(
    home: Home, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    target = tmp_path / "out"
    (mount(target / "disk") / "precious").write_bytes(b"p")
    with pytest.raises(UsageError, match="mounted inside"):
        restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert (target / "disk" / "precious").read_bytes() == b"p"


def test_too_little_space_is_reported_before_anything_is_written(
    home: Home, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    target = mount(tmp_path / "out", "-t", "tmpfs", "-o", "size=32k", "tmpfs")
    with pytest.raises(NoSpace) as caught:
        restore_into(supply_of(home.settings), target, new_id())
    assert str(target) in str(caught.value) and list(target.iterdir()) == []


def test_a_part_of_it_can_be_restored(home: Home, tmp_path: Path) -> None:
    settings = home.settings
    restored = restore_into(supply_of(settings, only=("data/covers/sub",)), tmp_path / "a", new_id())
    assert set(contents(tmp_path / "a")) == {"data/covers/sub/b.jpg"} and restored.parts == ("data",)
    restored = restore_into(supply_of(settings, only=("*.txt", ".env")), tmp_path / "b", new_id())
    assert set(contents(tmp_path / "b")) == {".env", *(path for path in SAVED if path.endswith(".txt"))}
    assert restored.parts == ("data", "etc")
    restore_into(supply_of(settings, only=("conf",)), tmp_path / "c", new_id())
    assert set(contents(tmp_path / "c")) == {"conf"}
    for nothing in ("*.png", "backups", "../etc"):
        with pytest.raises(NotFound, match="nothing in the backup matches"):
            restore_into(supply_of(settings, only=(nothing,)), tmp_path / "d", new_id())
    assert not (tmp_path / "d").exists() and not list(tmp_path.glob(".scriptorium-*"))


def test_a_further_name_alone_brings_the_contents(home: Home, tmp_path: Path) -> None:
    restored = restore_into(supply_of(home.settings, only=("again.jpg",)), tmp_path / "out", new_id())
    assert restored.warnings == () and restored.files == 1
    assert contents(tmp_path / "out") == {"data/covers/again.jpg": (home.data / "covers" / "a.jpg").read_bytes()}


@pytest.mark.parametrize(
    "point",
    [
        dying_before(into_folder, "read_parts"),
        dying_before(into_folder, "_put"),
        dying_before(Places, "rename", 1),
        dying_before(Places, "rename", 2),
        dying_before(into_folder, "_drop"),
    ],
    ids=["unpacking", "switching", "first rename", "second rename", "dropping what was there"],
)
def test_killed_on_the_way_into_a_folder_the_next_one_tidies_up(
    home: Home, tmp_path: Path, point: Callable[[pytest.MonkeyPatch], None]
) -> None:
    target, beside = tmp_path / "out", tmp_path / ".scriptorium-restore-0123456789ab-data"
    target.mkdir()
    (target / "precious").write_bytes(b"p")
    beside.mkdir()  # another restore's, in place: not ours to tidy up
    supply = supply_of(home.settings)
    assert killed(lambda: restore_into(supply, target, new_id(), clean=True), point)
    assert len(list(tmp_path.glob(".scriptorium-*"))) >= 2
    with pytest.raises(UsageError) if (target / "precious").exists() or target.exists() else contextlib.nullcontext():
        restore_into(supply, target, new_id())
    restore_into(supply, target, new_id(), clean=True)
    assert contents(target) == saved(home) and list(tmp_path.glob(".scriptorium-*")) == [beside]


def test_after_a_kill_between_the_renames_the_previous_folder_is_put_back(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "precious").write_bytes(b"p")
    supply = supply_of(home.settings)
    assert killed(lambda: restore_into(supply, target, new_id(), clean=True), dying_before(Places, "rename", 2))
    assert not target.exists()
    damage(home)
    with pytest.raises(DamageFound):
        restore_into(supply, target, new_id(), clean=True)
    assert (target / "precious").read_bytes() == b"p" and not list(tmp_path.glob(".scriptorium-*"))


def test_a_restore_that_runs_beside_is_left_alone(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supply = supply_of(home.settings)
    real = into_folder.read_parts

    def reading(*args: Any, **how: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(into_folder, "read_parts", real)
            restore_into(supply, tmp_path / "other", new_id())
        return real(*args, **how)

    monkeypatch.setattr(into_folder, "read_parts", reading)
    restore_into(supply, tmp_path / "out", new_id())
    assert contents(tmp_path / "out") == contents(tmp_path / "other") == saved(home)
