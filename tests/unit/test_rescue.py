"""The way back: into a folder, and over the living data, with every crash, damage and obstacle on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium import taking, workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, LibraryBusy, NoSpace, NotFound, RestoreFailed, UsageError
from scriptorium.manifest import new_id
from scriptorium.model import BackupType, Status
from scriptorium.rescue import Restored, Supply, elsewhere, inplace, recover, restore_in_place, restore_into, undo
from scriptorium.rescue.journal import Journal
from scriptorium.settings import Settings, load
from scriptorium.sources.kuzu_restore import KuzuIncoming
from scriptorium.sources.renames import StagingFolder
from scriptorium.taking import place_order, running

Facts = dict[str, tuple[object, ...]]


def facts(folder: Path, *, ours: bool = False) -> Facts:
    """Every byte, mode, owner and time of files, modes and owners of folders; without a restore's own folders."""
    found: Facts = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        inside = str(path.relative_to(folder))
        if not ours and (".scriptorium" in inside or inside.startswith("data/backups")):
            continue
        info = path.lstat()
        common = (stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        if path.is_symlink():
            found[inside] = (*common, os.readlink(path))  # noqa: PTH115  exactly as it was written
        elif path.is_dir():
            found[inside] = common
        else:
            found[inside] = (*common, path.read_bytes(), info.st_mtime_ns)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and ".scriptorium" not in str(path.relative_to(folder))
    }


def take(settings: Settings, type: BackupType = BackupType.FULL) -> str:
    order = place_order(settings, type=type, to=["local"])
    with running(settings, order) as folder:
        staged = [taking.stage_source(settings, order, source, folder) for source in order.sources]
        manifest = taking.pack_archive(settings, order, staged, folder)
        verification = taking.check_archive(settings, order, manifest, folder)
        taking.store_copy(settings, order, manifest, verification, folder, "local")
    return order.id


def supply_of(settings: Settings, reference: str = "latest", **how: Any) -> Supply:
    catalog = Catalog(settings)
    copy = catalog.copy_of(catalog.find(reference))
    return Supply(settings.store(copy.store), copy.key, catalog.manifest(copy), **how)


def in_place(settings: Settings, supply: Supply, **how: Any) -> Restored:
    library = settings.library()
    with workspace.lock(settings, library.name, "restore"):
        recover(settings, library)
        return restore_in_place(settings, library, supply, new_id(), **how)


def recovered(settings: Settings) -> tuple[str, ...]:
    with workspace.lock(settings, settings.library().name, "recover"):
        return recover(settings, settings.library())


# --- a library of files: quick to save, quick to bring back -----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Home:
    """A tree with excluded things in it, and the store; a single file; configuration at the top."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return load(self.folder / "scriptorium.toml", {})

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def change(self) -> None:
        """What happens to a library after its backup: all of it is worse."""
        (self.data / "covers" / "a.jpg").write_bytes(b"overwritten")
        (self.data / "covers" / "new.jpg").write_bytes(b"came later")
        shutil.rmtree(self.data / "uploads")
        (self.data / "notes.txt").unlink()
        (self.data / "notes.txt").mkdir()
        (self.data / "notes.txt" / "x").write_bytes(b"a folder now")
        (self.data / "log" / "app.log").write_bytes(b"excluded, newer")
        (self.folder / "app.conf").write_bytes(b"changed")
        (self.folder / "etc" / ".env").unlink()


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """Libraries are made once and copied for every test, in memory where that can be: a test waits for no disk."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tmp_path(memory: Path) -> Iterator[Path]:
    folder = memory / new_id()
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@pytest.fixture
def home(memory: Path, tmp_path: Path) -> Home:
    if not (memory / "home").exists():
        make_home(memory / "home")
    copy(memory / "home", tmp_path / "home")
    Catalog(Home(tmp_path / "home").settings).rebuild()
    return Home(tmp_path / "home")


def make_home(folder: Path) -> None:
    for path, content in {
        "data/covers/a.jpg": os.urandom(40_000),
        "data/covers/sub/b.jpg": os.urandom(2000),
        "data/uploads/c.txt": b"c",
        "data/notes.txt": b"notes",
        "data/log/app.log": b"excluded",
        "data/log/kept.txt": b"not excluded",
        "data/" + os.fsdecode(b"\xff.txt"): b"odd",
        "etc/.env": b"SECRET=1",
        "etc/other": b"not ours",
        "app.conf": b"x = 1",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "data" / "empty").mkdir(mode=0o751)
    (folder / "data" / "link").symlink_to("../app.conf")
    (folder / "data" / "covers" / "again.jpg").hardlink_to(folder / "data" / "covers" / "a.jpg")
    (folder / "etc" / ".env").chmod(0o600)
    (folder / "scriptorium.toml").write_text(
        "[libraries.lib]\nsources = [\n"
        '  { name = "data", kind = "files", path = "data", exclude = ["*.log"] },\n'
        '  { name = "conf", kind = "files", path = "app.conf", role = "config" },\n'
        '  { name = "etc", kind = "files", path = "etc", at = "", include = ["/.env"], role = "config" },\n'
        ']\n[stores.local]\nkind = "local"\npath = "data/backups"\n'
    )
    take(Home(folder).settings)


SAVED = (
    "data/covers/a.jpg",
    "data/covers/again.jpg",
    "data/covers/sub/b.jpg",
    "data/uploads/c.txt",
    "data/notes.txt",
    "data/log/kept.txt",
    "data/" + os.fsdecode(b"\xff.txt"),
)


def saved(home: Home) -> dict[str, bytes]:
    """What the backup holds, by its path in the archive."""
    found = {path: (home.folder / path).read_bytes() for path in SAVED}
    return found | {
        "conf": (home.folder / "app.conf").read_bytes(),
        ".env": (home.folder / "etc" / ".env").read_bytes(),
    }


# --- into a folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "deeper than anything"])
def test_into_a_folder_everything_lies_as_in_the_archive(home: Home, tmp_path: Path, there: str) -> None:
    target = tmp_path / "a" / "b" / "out" if there.startswith("deeper") else tmp_path / "out"
    if there == "an empty folder":
        target.mkdir(mode=0o750)
    expected = saved(home)
    home.change()
    living = facts(home.folder)
    restored = restore_into(supply_of(home.settings), target, new_id())
    assert contents(target) == expected
    assert (target / "data" / "covers" / "again.jpg").samefile(target / "data" / "covers" / "a.jpg")
    assert stat.S_IMODE((target / "data" / "empty").stat().st_mode) == 0o751
    assert stat.S_IMODE((target / ".env").stat().st_mode) == 0o600
    assert os.readlink(target / "data" / "link") == "../app.conf"  # noqa: PTH115
    assert stat.S_IMODE(target.stat().st_mode) == (0o750 if there == "an empty folder" else 0o700)
    assert (restored.place, restored.parts, restored.warnings) == (str(target), ("data", "conf", "etc"), ())
    assert restored.files == len(expected) + 1 and restored.bytes == sum(map(len, expected.values())) - 40_000
    assert facts(home.folder) == living and not list(tmp_path.glob("**/.scriptorium-*"))


def test_a_folder_that_holds_something_is_not_touched_without_clean(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "deep").mkdir(parents=True)
    (target / "deep" / "precious").write_bytes(b"p")
    target.chmod(0o755)
    supply = supply_of(home.settings)
    before = facts(tmp_path)
    with pytest.raises(UsageError) as caught:
        restore_into(supply, target, new_id())
    assert "--clean" in caught.value.hint and facts(tmp_path) == before
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
    before = facts(tmp_path)
    with pytest.raises(UsageError):
        restore_into(supply_of(home.settings), target / "x" if kind == "below a file" else target, new_id(), clean=True)
    assert facts(tmp_path) == before


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
    before = facts(home.folder, ours=True)
    with pytest.raises(UsageError, match="is, or holds"):
        restore_into(supply, target, new_id(), clean=True, never=never)
    assert facts(home.folder, ours=True) == before


def damage(home: Home) -> None:
    backup = Catalog(home.settings).find("latest")
    archive = Path(home.settings.store("local").location(backup.copies[0].key))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1  # in a picture, which nothing can shrink
    archive.write_bytes(data)


@pytest.mark.parametrize("there", [False, True])
def test_damage_leaves_the_target_as_it_was(home: Home, tmp_path: Path, there: bool) -> None:
    target = tmp_path / "out"
    if there:
        target.mkdir()
        (target / "precious").write_bytes(b"p")
    damage(home)
    supply = supply_of(home.settings)
    before = facts(tmp_path, ours=True)
    with pytest.raises(DamageFound):
        restore_into(supply, target, new_id(), clean=True)
    assert facts(tmp_path, ours=True) == before


def test_an_archive_that_is_gone_leaves_the_target_as_it_was(home: Home, tmp_path: Path) -> None:
    supply = supply_of(home.settings)
    home.settings.store("local").delete(supply.key)
    before = facts(tmp_path, ours=True)
    with pytest.raises(NotFound):
        restore_into(supply, tmp_path / "out", new_id())
    assert facts(tmp_path, ours=True) == before


@pytest.mark.parametrize("fails", [1, 2])
def test_a_switch_that_fails_puts_the_former_folder_back(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "precious").write_bytes(b"p")
    before = facts(tmp_path, ours=True)
    real, left = Path.rename, [fails]

    def rename(self: Path, goal: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(self, goal)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert facts(tmp_path, ours=True) == before


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
    before = facts(target, ours=True)
    with pytest.raises(DamageFound):
        restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert facts(target, ours=True) == before


def test_a_switch_that_fails_inside_a_filesystem_of_its_own_is_taken_back(
    home: Home, tmp_path: Path, mount: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = mount(tmp_path / "out")
    for name in ("a", "b"):
        (target / name).write_bytes(b"p")
    before = facts(target, ours=True)
    real = Path.rename
    for stop in range(1, 6):
        left = [stop]

        def rename(self: Path, goal: Path) -> Path:
            left[0] -= 1  # noqa: B023
            if left[0] == 0:  # noqa: B023
                raise OSError(5, "Input/output error")
            return real(self, goal)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            with pytest.raises(RestoreFailed):
                restore_into(supply_of(home.settings), target, new_id(), clean=True)
        assert facts(target, ours=True) == before


def test_what_is_mounted_inside_the_target_is_never_removed_with_it(
    home: Home, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    target = tmp_path / "out"
    (mount(target / "disk") / "precious").write_bytes(b"p")
    with pytest.raises(UsageError, match="mounted inside"):
        restore_into(supply_of(home.settings), target, new_id(), clean=True)
    assert (target / "disk" / "precious").read_bytes() == b"p"


def test_too_little_room_is_said_before_anything_is_written(
    home: Home, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    target = mount(tmp_path / "out", "-t", "tmpfs", "-o", "size=32k", "tmpfs")
    with pytest.raises(NoSpace) as caught:
        restore_into(supply_of(home.settings), target, new_id())
    assert str(target) in str(caught.value) and list(target.iterdir()) == []


def test_a_part_of_it_can_be_brought_back(home: Home, tmp_path: Path) -> None:
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


def test_a_hard_link_whose_file_is_not_wanted_is_said(home: Home, tmp_path: Path) -> None:
    restored = restore_into(supply_of(home.settings, only=("again.jpg",)), tmp_path / "out", new_id())
    assert len(restored.warnings) == 1 and "data/covers/again.jpg" in restored.warnings[0]


def killed(call: Callable[[], object], arrange: Callable[[pytest.MonkeyPatch], None]) -> bool:
    """Runs in another process, which kills itself where ``arrange`` says; whether that point was reached."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            arrange(pytest.MonkeyPatch())
            call()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_before(owner: object, name: str, count: int = 1) -> Callable[[pytest.MonkeyPatch], None]:
    """SIGKILL in place of the ``count``-th call."""

    def arrange(patch: pytest.MonkeyPatch) -> None:
        real, left = getattr(owner, name), [count]

        def call(*args: object, **how: object) -> object:
            left[0] -= 1
            return real(*args, **how) if left[0] else kill()

        patch.setattr(owner, name, call)

    return arrange


@pytest.mark.parametrize(
    "point",
    [
        dying_before(elsewhere, "read_parts"),
        dying_before(elsewhere, "_put"),
        dying_before(Path, "rename", 1),
        dying_before(Path, "rename", 2),
        dying_before(elsewhere, "remove_tree"),
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


def test_killed_between_the_renames_the_former_folder_comes_back(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "precious").write_bytes(b"p")
    supply = supply_of(home.settings)
    assert killed(lambda: restore_into(supply, target, new_id(), clean=True), dying_before(Path, "rename", 2))
    assert not target.exists()
    damage(home)
    with pytest.raises(DamageFound):
        restore_into(supply, target, new_id(), clean=True)
    assert (target / "precious").read_bytes() == b"p" and not list(tmp_path.glob(".scriptorium-*"))


def test_a_restore_that_runs_beside_is_left_alone(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supply = supply_of(home.settings)
    real = elsewhere.read_parts

    def reading(*args: Any, **how: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(elsewhere, "read_parts", real)
            restore_into(supply, tmp_path / "other", new_id())
        return real(*args, **how)

    monkeypatch.setattr(elsewhere, "read_parts", reading)
    restore_into(supply, tmp_path / "out", new_id())
    assert contents(tmp_path / "out") == contents(tmp_path / "other") == saved(home)


# --- over the living data ---------------------------------------------------------------------------------------------


def test_in_place_what_was_saved_is_back_and_what_was_not_stays(home: Home) -> None:
    before, expected = facts(home.folder), saved(home)
    backups = contents(home.data / "backups")
    home.change()
    restored = in_place(home.settings, supply_of(home.settings))
    assert restored.place == "in place" and restored.parts == ("data", "conf", "etc")
    after = facts(home.folder)
    assert after.pop("data/log/app.log")[4] == b"excluded, newer" and before.pop("data/log/app.log")
    assert after == before
    assert saved(home) == expected
    stored = contents(home.data / "backups")
    assert {path: stored.get(path) for path in backups} == backups, "the store inside the tree is not touched"


def test_a_library_that_is_lost_altogether_comes_back(home: Home, tmp_path: Path) -> None:
    """A new machine: the store was brought there, nothing else is."""
    shutil.move(home.data / "backups", tmp_path / "kept")
    text = (home.folder / "scriptorium.toml").read_text().replace("data/backups", str(tmp_path / "kept"))
    (home.folder / "scriptorium.toml").write_text(text)
    expected = saved(home)
    shutil.rmtree(home.data)
    shutil.rmtree(home.folder / "etc")
    (home.folder / "app.conf").unlink()
    in_place(home.settings, supply_of(home.settings))
    assert saved(home) == expected
    assert stat.S_IMODE((home.data / "empty").stat().st_mode) == 0o751


def test_a_part_of_it_in_place_leaves_all_the_rest(home: Home) -> None:
    expected = saved(home)
    home.change()
    before = facts(home.folder)
    restored = in_place(home.settings, supply_of(home.settings, only=("data/covers/a.jpg", ".env")))
    assert restored.parts == ("data", "etc")
    after = facts(home.folder)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {"data/covers/a.jpg", "etc/.env"}
    assert (home.data / "covers" / "a.jpg").read_bytes() == expected["data/covers/a.jpg"]


def test_damage_in_the_archive_leaves_the_living_data_untouched(home: Home) -> None:
    home.change()
    damage(home)
    before = facts(home.folder, ours=True)
    with pytest.raises(DamageFound):
        in_place(home.settings, supply_of(home.settings))
    assert facts(home.folder) == {path: fact for path, fact in before.items() if path in facts(home.folder)}
    assert not list(home.folder.rglob(".scriptorium-restore-*")) and recovered(home.settings) == ()


def test_a_part_that_the_settings_no_longer_know_is_said_first(home: Home) -> None:
    supply = supply_of(home.settings)
    file = home.folder / "scriptorium.toml"
    file.write_text(file.read_text().replace('name = "conf"', 'name = "renamed"'))
    home.change()
    before = facts(home.folder)
    with pytest.raises(NotFound) as caught:
        in_place(home.settings, supply)
    assert "conf" in str(caught.value) and "--restore-path" in caught.value.hint
    assert facts(home.folder) == before


def test_what_is_not_well_afterwards_is_undone(home: Home) -> None:
    home.change()
    before = facts(home.folder)

    def unwell() -> None:
        assert (home.data / "uploads" / "c.txt").read_bytes() == b"c", "asked when it is in place"
        raise RestoreFailed("the application is not well")

    with pytest.raises(RestoreFailed, match="not well"):
        in_place(home.settings, supply_of(home.settings), healthy=unwell)
    assert facts(home.folder) == before and recovered(home.settings) == ()


POINTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "preparing: nothing is unpacked": dying_before(inplace, "read_parts"),
    "preparing: all is unpacked": dying_before(inplace, "load_parts"),
    "preparing: the journal": dying_before(Journal, "mark", 2),
    "switching: no plan": dying_before(StagingFolder, "write_plan", 1),
    "switching: a plan": dying_before(StagingFolder, "apply", 1),
    **{f"switching: rename {number}": dying_before(Path, "rename", number) for number in (2, 3, 4, 6, 9, 12, 14)},
    "switching: one part of three": dying_before(StagingFolder, "write_plan", 2),
    "switching: two parts of three": dying_before(StagingFolder, "apply", 3),
    "switched: not said yet": dying_before(Journal, "mark", 3),
    "switched: not kept yet": dying_before(Journal, "mark", 4),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_in_place_the_next_run_puts_back_what_was_there(home: Home, point: str) -> None:
    home.change()
    before = facts(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS[point]), "the point was never reached"
    said = recovered(settings)
    assert len(said) == 1 and supply.manifest.id in said[0] and "undone" in said[0]
    assert facts(home.folder) == before
    assert not list(home.folder.rglob(".scriptorium-restore-*")) and recovered(settings) == ()
    in_place(settings, supply)
    assert (home.data / "uploads" / "c.txt").read_bytes() == b"c"


@pytest.mark.parametrize("first", ["switching: a plan", "switching: rename 6", "switched: not said yet"])
@pytest.mark.parametrize("second", [1, 2, 4])
def test_killed_while_it_is_put_back_the_run_after_that_does_it(home: Home, first: str, second: int) -> None:
    home.change()
    before = facts(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS[first])
    killed(lambda: recovered(settings), dying_before(Path, "rename", second))
    recovered(settings)
    assert facts(home.folder) == before and not list(home.folder.rglob(".scriptorium-restore-*"))


def test_killed_once_it_stands_it_stands_and_can_be_gone_back_from(home: Home) -> None:
    home.change()
    before = facts(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), dying_before(inplace, "drop_former"))
    assert recovered(settings) == ()
    assert (home.data / "uploads" / "c.txt").read_bytes() == b"c"
    with workspace.lock(settings, "lib", "undo"):
        assert undo(settings, settings.library()) == supply.manifest.id
    assert facts(home.folder) == before
    with workspace.lock(settings, "lib", "undo"), pytest.raises(NotFound, match="no former data"):
        undo(settings, settings.library())


def test_a_backup_undoes_a_restore_that_was_cut_short_before_it_reads(home: Home) -> None:
    home.change()
    before = facts(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS["switching: rename 6"])
    assert take(settings)
    assert facts(home.folder) == before


def test_a_journal_that_cannot_be_read_stops_everything_until_somebody_looks(home: Home) -> None:
    folder = home.settings.workroom / "restores"
    folder.mkdir()
    for torn in (b"", b"{", b"[]", b"{}"):
        (folder / "lib-0123456789ab.json").write_bytes(torn)
        with pytest.raises(RestoreFailed) as caught:
            recovered(home.settings)
        assert "former" in caught.value.hint


def test_former_data_of_a_source_that_left_the_settings_is_not_forgotten(home: Home) -> None:
    home.change()
    before = facts(home.data)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS["switched: not said yet"])
    file = home.folder / "scriptorium.toml"
    text = file.read_text()
    file.write_text(text.replace('name = "conf"', 'name = "renamed"'))
    with pytest.raises(RestoreFailed) as caught:
        recovered(home.settings)
    assert "'conf'" in str(caught.value) and "put the source back" in caught.value.hint
    file.write_text(text)
    recovered(home.settings)
    assert facts(home.data) == before


@pytest.mark.parametrize("keep", [0, 7])
def test_former_data_is_kept_for_a_while_or_not_at_all(home: Home, keep: int) -> None:
    file = home.folder / "scriptorium.toml"
    file.write_text(f"keep_former = {keep}\n" + file.read_text())
    settings = home.settings
    for _ in range(2):
        home.change()
        in_place(settings, supply_of(settings))
        assert bool(list(home.folder.rglob(".scriptorium-restore-*"))) == bool(keep)
    journals = list((settings.workroom / "restores").glob("*.json"))
    assert len(journals) == (1 if keep else 0), "of two restores in a row the newest is kept"
    assert len(list(home.data.glob(".scriptorium-restore-*"))) == (1 if keep else 0)
    if journals:
        facts_of = json.loads(journals[0].read_text())
        assert facts_of["state"] == "kept" and stat.S_IMODE(journals[0].stat().st_mode) == 0o600
    again = take(settings)
    manifest = supply_of(settings, again).manifest
    assert manifest.files.entries is not None
    assert not [entry.path for entry in manifest.files.entries if ".scriptorium" in entry.path]


# --- a library with a database ----------------------------------------------------------------------------------------


@pytest.fixture
def library(memory: Path, tmp_path: Path, new_place: Callable[..., Any]) -> Any:
    if not (memory / "library").exists():
        (memory / "library").mkdir()
        take(new_place(memory / "library").settings)
    copy(memory / "library", tmp_path / "copy")
    return _place(tmp_path / "copy")


def _place(folder: Path) -> Any:
    @dataclasses.dataclass(frozen=True)
    class Place:
        home: Path = folder / "library"
        database: Path = folder / "library" / "data" / "kuzu" / "bibliotheca.db"

        @property
        def settings(self) -> Settings:
            return load(folder / "scriptorium.toml", {})

        def books(self, database: Path | None = None, add: str = "") -> int:
            """The number of books, counted by a child: nothing of the engine stays in this process."""
            script = (
                "import kuzu, sys\nd = kuzu.Database(sys.argv[1])\nc = kuzu.Connection(d)\n"
                "if sys.argv[2]: c.execute(sys.argv[2])\n"
                "print(c.execute('MATCH (b:Book) RETURN count(*)').get_next()[0])\n"
            )
            query = f"CREATE (:Book {{id: '{add}', title: 'x', pages: 1}})" if add else ""
            out = subprocess.run(
                [sys.executable, "-c", script, str(database or self.database), query], capture_output=True, check=True
            )
            return int(out.stdout)

    return Place()


def test_a_database_comes_back_into_a_folder_raw_or_from_its_export(library: Any, tmp_path: Path) -> None:
    tables = {}
    for rebuild in (False, True):
        target = tmp_path / f"out-{rebuild}"
        restored = restore_into(supply_of(library.settings, rebuild=rebuild), target, new_id())
        assert restored.parts == ("kuzu", "data", "config")
        tables[rebuild] = restored.tables
        assert library.books(target / "data" / "kuzu" / "bibliotheca.db") == 50
        assert (target / "data" / "covers" / "a.jpg").exists() and (target / ".env").exists()
        assert not list(target.rglob("*.scriptorium*")) and not (target / "exports").exists()
    assert tables[False] == tables[True] and tables[False]["Book"].rows == 50


def test_a_database_comes_whole_or_not_at_all(library: Any, tmp_path: Path) -> None:
    inner = supply_of(library.settings, only=("exports/kuzu/schema.cypher",))
    restored = restore_into(inner, tmp_path / "a", new_id())
    assert restored.parts == ("kuzu",) and library.books(tmp_path / "a/data/kuzu/bibliotheca.db") == 50
    restored = restore_into(supply_of(library.settings, only=("*.jpg",)), tmp_path / "b", new_id())
    assert restored.parts == ("data",) and not (tmp_path / "b/data/kuzu").exists()
    large = inner.manifest.files
    unlisted = dataclasses.replace(inner.manifest, files=dataclasses.replace(large, entries=None, member="files.jsonl"))
    for only, parts in ((("*.jpg",), ("data",)), (("kuzu",), ("kuzu",)), (("bibliotheca.db",), ("kuzu",))):
        supply = dataclasses.replace(inner, manifest=unlisted, only=only)
        found = {part.source for part in elsewhere.wanted(supply)}
        assert found >= set(parts) and ("kuzu" in found) == ("kuzu" in parts)


def test_a_database_in_place_with_files_that_came_since_around_it(library: Any) -> None:
    library.books(add="late")
    (library.home / "data" / "covers" / "late.jpg").write_bytes(b"late")
    (library.home / "config.py").write_text("DEBUG = True\n")
    restored = in_place(library.settings, supply_of(library.settings))
    assert restored.tables["Book"].rows == 50 and library.books() == 50
    assert not (library.home / "data" / "covers" / "late.jpg").exists()
    assert (library.home / "config.py").read_text() == "DEBUG = False\n"
    assert (library.home / "data" / "logs" / "app.log").read_text() == "volatile"


def test_a_database_in_place_from_its_export(library: Any) -> None:
    library.books(add="late")
    restored = in_place(library.settings, supply_of(library.settings, rebuild=True))
    assert restored.tables["Book"].rows == 50 and library.books() == 50


def test_a_lost_library_comes_back_with_its_database(library: Any) -> None:
    shutil.rmtree(library.home)
    in_place(library.settings, supply_of(library.settings))
    assert library.books() == 50 and (library.home / ".env").read_text() == "SECRET_KEY=very-secret-value\n"
    assert stat.S_IMODE((library.home / ".env").stat().st_mode) == 0o600


DATABASE_POINTS = {
    "the database is in, the files are not": dying_before(StagingFolder, "write_plan", 2),
    "the former database is out, the new one not in": dying_before(Path, "rename", 3),
    "all is in": dying_before(Journal, "mark", 3),
    "unpacked, not opened": dying_before(KuzuIncoming, "load"),
}


@pytest.mark.parametrize("point", DATABASE_POINTS)
def test_killed_with_a_database_what_was_there_comes_back(library: Any, point: str) -> None:
    library.books(add="late")
    before = facts(library.home)
    settings, supply = library.settings, supply_of(library.settings)
    assert killed(lambda: in_place(settings, supply), DATABASE_POINTS[point])
    assert len(recovered(settings)) == 1
    assert facts(library.home) == before and library.books() == 51


@pytest.fixture
def application(library: Any) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A process that has the database open."""
    children = []

    def start() -> subprocess.Popen[bytes]:
        script = "import kuzu, sys\nd = kuzu.Database(sys.argv[1])\nprint('open', flush=True)\nsys.stdin.read()\n"
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(library.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout is not None and child.stdout.readline() == b"open\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_while_the_application_holds_the_database_nothing_is_replaced(
    library: Any, application: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    child = application()
    before = facts(library.home)
    with pytest.raises(LibraryBusy) as caught:
        in_place(library.settings, supply_of(library.settings))
    assert f"process {child.pid}" in str(caught.value) and caught.value.exit_code == 4
    assert facts(library.home) == before
    assert restore_into(supply_of(library.settings), tmp_path / "out", new_id()).tables["Book"].rows == 50


def test_an_application_that_was_started_on_half_a_restore_is_not_pulled_from_under(
    library: Any, application: Callable[[], subprocess.Popen[bytes]]
) -> None:
    library.books(add="late")
    settings, supply = library.settings, supply_of(library.settings)
    assert killed(lambda: in_place(settings, supply), DATABASE_POINTS["all is in"])
    child = application()
    now = facts(library.home)
    with pytest.raises(LibraryBusy) as caught:
        recovered(settings)
    assert "cut short" in caught.value.hint and f"process {child.pid}" in str(caught.value)
    assert facts(library.home) == now
    child.kill()
    child.wait()
    assert len(recovered(settings)) == 1 and library.books() == 51


def test_a_restore_that_was_cut_short_before_the_switch_does_not_stop_a_running_application(
    library: Any, application: Callable[[], subprocess.Popen[bytes]]
) -> None:
    settings, supply = library.settings, supply_of(library.settings)
    assert killed(lambda: in_place(settings, supply), DATABASE_POINTS["unpacked, not opened"])
    application()
    assert len(recovered(settings)) == 1
    assert Catalog(settings).find(take(settings)).status is Status.VERIFIED
