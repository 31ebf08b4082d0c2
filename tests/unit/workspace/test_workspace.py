"""The workspace: one run for each library, across processes and crashes; markers of readers; free space."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scriptorium import workspace
from scriptorium.errors import LibraryBusy, NoSpace, SettingsError, Untrusted
from scriptorium.fs.atomic import forget_cached
from scriptorium.settings import Settings, load

ID, OTHER = "0123456789ab", "ba9876543210"


def settings_in(folder: Path) -> Settings:
    file = folder / "scriptorium.toml"
    file.write_text(
        '[libraries.lib]\nsources = [{ kind = "files", path = "up" }]\n[stores.local]\nkind = "local"\npath = "store"\n'
    )
    return load(file, {})


@contextlib.contextmanager
def working(settings: Settings) -> Iterator[None]:
    with workspace.lock(settings, "lib", "backup"), workspace.staging(settings, "lib", ID):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@dataclass
class Child:
    """Another process that is in a block until it is ended."""

    pid: int
    pipe: int

    def end(self) -> None:
        os.close(self.pipe)
        assert os.waitpid(self.pid, 0)[1] == 0
        self.pid = 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pipe)
        self.pid = 0


Another = Callable[[Callable[[], contextlib.AbstractContextManager[object]]], Child]


@pytest.fixture
def another() -> Iterator[Another]:
    children: list[Child] = []

    def start(block: Callable[[], contextlib.AbstractContextManager[object]]) -> Child:
        ours, theirs = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                os.close(ours[1])
                for child in children:
                    os.close(child.pipe)
                with block():
                    os.write(theirs[1], b"ready")
                    os.read(ours[0], 1)
                status = 0
            os._exit(status)
        os.close(ours[0])
        os.close(theirs[1])
        children.append(Child(pid, ours[1]))
        assert os.read(theirs[0], 5) == b"ready"
        os.close(theirs[0])
        return children[-1]

    yield start
    for child in children:
        if child.pid:
            child.kill()


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_the_error_of_a_second_process_names_the_holder_of_the_library(settings: Settings, another: Another) -> None:
    child = another(lambda: workspace.lock(settings, "lib", "full backup 0123456789ab"))
    with pytest.raises(LibraryBusy) as caught, workspace.lock(settings, "lib", "cleanup"):
        pass
    message = str(caught.value)
    assert "full backup 0123456789ab" in message and f"process {child.pid}" in message and "since" in message
    assert caught.value.exit_code == 4 and caught.value.on == "lib"
    with workspace.lock(settings, "other", "backup"):
        pass  # libraries do not stand in each other's way
    child.end()
    with workspace.lock(settings, "lib", "cleanup"):
        pass


def test_the_same_process_cannot_hold_a_library_twice(settings: Settings) -> None:
    with (
        workspace.lock(settings, "lib", "backup"),
        pytest.raises(LibraryBusy, match=f"backup, process {os.getpid()}"),
        workspace.lock(settings, "lib", "restore"),
    ):
        pass
    with workspace.lock(settings, "lib", "restore"):
        pass


def test_a_holder_that_is_killed_frees_the_lock(settings: Settings, another: Another) -> None:
    child = another(lambda: workspace.lock(settings, "lib", "backup"))
    child.kill()
    with workspace.lock(settings, "lib", "cleanup"):
        holder = json.loads((settings.workspace_folder / "lib.holder.json").read_text())
        assert (holder["doing"], holder["pid"]) == ("cleanup", os.getpid())


def test_an_error_frees_the_lock(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), workspace.lock(settings, "lib", "backup"):
        raise ZeroDivisionError
    with workspace.lock(settings, "lib", "backup"):
        pass


def test_one_that_waits_gets_the_lock_when_it_is_free(settings: Settings, another: Another) -> None:
    child = another(lambda: workspace.lock(settings, "lib", "backup"))
    timer = threading.Timer(0.3, child.end)
    timer.start()
    with workspace.lock(settings, "lib", "cleanup", wait=20):
        timer.join()


def test_a_library_is_busy_even_if_its_holder_is_unreadable(settings: Settings, another: Another) -> None:
    another(lambda: workspace.lock(settings, "lib", "backup"))
    for torn in ("", "{", "[]", "{}", "null"):
        (settings.workspace_folder / "lib.holder.json").write_text(torn)
        with pytest.raises(LibraryBusy, match="another run holds the library"), workspace.lock(settings, "lib", "x"):
            pass


def test_the_workspace_is_ours_alone(settings: Settings) -> None:
    previous = os.umask(0)
    try:
        with workspace.lock(settings, "lib", "backup"), workspace.staging(settings, "lib", ID) as folder:
            (folder / "x").mkdir(mode=0o700)
            with workspace.reading(settings, OTHER):
                pass
    finally:
        os.umask(previous)
    for path in (settings.workspace_folder, *settings.workspace_folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert settings.workspace_folder.parent.stat().st_mode & 0o077 == 0, "the store's folder, too"


def test_a_workspace_that_cannot_be_made_is_reported(settings: Settings) -> None:
    settings.workspace_folder.parent.write_text("a file where the store should be")
    with pytest.raises(SettingsError) as caught, workspace.lock(settings, "lib", "backup"):
        pass
    assert "workspace" in caught.value.hint and str(settings.workspace_folder) in str(caught.value)


# --- staging ----------------------------------------------------------------------------------------------------------


def test_a_run_s_folder_is_empty_and_goes_with_it(settings: Settings) -> None:
    with workspace.staging(settings, "lib", ID) as folder:
        assert folder.is_dir() and not list(folder.iterdir()) and folder.parent.name == "staging"
        (folder / "half").write_text("x")
    assert not folder.exists()
    with pytest.raises(ZeroDivisionError), workspace.staging(settings, "lib", ID) as folder:
        raise ZeroDivisionError
    assert not folder.exists()


def test_the_next_run_clears_what_a_dead_one_left_and_nothing_else(settings: Settings, another: Another) -> None:
    child = another(lambda: working(settings))
    left = settings.workspace_folder / "staging" / f"lib-{ID}"
    (left / "deep").mkdir()
    (left / "deep" / "half.tar.gz").write_text("x")
    others = [settings.workspace_folder / "staging" / name for name in (f"lib-2-{ID}", f"li-{ID}", "lib-notes")]
    for other in others:
        other.mkdir()
    child.kill()
    assert left.exists()
    with workspace.lock(settings, "lib", "backup"):
        assert not left.exists() and all(other.exists() for other in others)


def test_a_living_run_s_folder_is_left_alone(settings: Settings, another: Another) -> None:
    another(lambda: working(settings))
    with pytest.raises(LibraryBusy), workspace.lock(settings, "lib", "cleanup"):
        pass
    assert (settings.workspace_folder / "staging" / f"lib-{ID}").exists()


def test_a_folder_is_emptied_for_another_try(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    for _ in range(2):
        workspace.empty_folder(folder)
        assert not list(folder.iterdir()) and stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "left").write_text("by a previous try")


def test_a_file_is_forgotten_by_the_kernel_and_still_there(tmp_path: Path) -> None:
    file = tmp_path / "archive"
    file.write_bytes(b"x" * 10_000)
    forget_cached(file)
    assert file.read_bytes() == b"x" * 10_000


# --- who is reading ---------------------------------------------------------------------------------------------------


def test_what_another_process_reads_is_known_and_not_removed(settings: Settings, another: Another) -> None:
    assert workspace.being_read(settings) == frozenset()
    first = another(lambda: workspace.reading(settings, ID))
    second = another(lambda: workspace.reading(settings, ID))
    assert workspace.being_read(settings) == {ID}
    for child in (first, second):
        with workspace.removing(settings, ID) as free, workspace.removing(settings, OTHER) as other_free:
            assert (free, other_free) == (False, True)
        assert workspace.being_read(settings) == {ID}
        child.end()
    assert workspace.being_read(settings) == frozenset()
    with workspace.removing(settings, ID) as free:
        assert free
    assert list((settings.workspace_folder / "reading").iterdir()) == []


def test_a_reader_that_is_killed_reads_no_more(settings: Settings, another: Another) -> None:
    child = another(lambda: workspace.reading(settings, ID))
    child.kill()
    assert (settings.workspace_folder / "reading" / ID).exists()
    assert workspace.being_read(settings) == frozenset()
    with workspace.removing(settings, ID) as free:
        assert free


def test_reading_nests(settings: Settings) -> None:
    with workspace.reading(settings, ID):
        with workspace.reading(settings, ID):
            assert workspace.being_read(settings) == {ID}
        assert workspace.being_read(settings) == {ID}
    assert workspace.being_read(settings) == frozenset()


def test_a_reader_that_comes_while_a_backup_is_removed_waits(settings: Settings) -> None:
    order: list[str] = []
    began = threading.Event()

    def read() -> None:
        began.set()
        with workspace.reading(settings, ID):
            order.append("read")

    reader = threading.Thread(target=read)
    with workspace.removing(settings, ID) as free:
        assert free
        reader.start()
        began.wait()
        reader.join(timeout=0.2)
        assert reader.is_alive()
        order.append("removed")
    reader.join(timeout=10)
    assert order == ["removed", "read"] and workspace.being_read(settings) == frozenset()


def test_many_readers_come_and_go(settings: Settings) -> None:
    """The last process to end removes the marker; nobody may hold a marker that others cannot see."""
    missed = []

    def read() -> None:
        for _ in range(60):
            with workspace.reading(settings, ID):
                if ID not in workspace.being_read(settings):
                    missed.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missed
    assert workspace.being_read(settings) == frozenset()


def test_a_restore_from_a_place_without_markers_continues(settings: Settings) -> None:
    """The disk is mounted read-only; in this test a file in place of the folder of markers has that effect."""
    settings.workspace_folder.mkdir(parents=True)
    (settings.workspace_folder / "reading").write_text("in the way")
    with workspace.reading(settings, ID):
        pass
    with workspace.removing(settings, ID) as free:
        assert free


# --- free space -------------------------------------------------------------------------------------------------------


def test_what_is_needed_what_is_there_and_where(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    workspace.require_space(tmp_path / "not" / "there" / "yet", 0, "the backup")
    with pytest.raises(NoSpace) as caught:
        workspace.require_space(tmp_path / "not" / "there" / "yet", free * 2, "the backup")
    message = str(caught.value)
    assert message.startswith("the backup needs ") and ", there are " in message and message.endswith(f": {tmp_path}")
    assert caught.value.exit_code == 7 and "workspace" in caught.value.hint


def test_a_margin_is_kept(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(NoSpace):
        workspace.require_space(tmp_path, free - 1000, "the backup")


def test_a_full_disk_is_reported_as_no_space(tmp_path: Path) -> None:
    """Not even the workspace fits: exit 7, no traceback."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=4", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True).returncode != 0:
        pytest.skip("a small filesystem can only be mounted by root, where mounting is allowed")
    try:
        settings = settings_in(disk)
        (disk / "store").mkdir()
        (disk / "last").touch()
        with pytest.raises(NoSpace), workspace.lock(settings, "lib", "backup"):
            pass
        (disk / "last").unlink()
        with workspace.reading(settings, ID):
            pass
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_workspace_that_others_may_write_is_refused(settings: Settings, mode: int) -> None:
    with workspace.lock(settings, "lib", "backup"):
        pass
    settings.workspace_folder.chmod(mode)
    with pytest.raises(Untrusted) as caught, workspace.lock(settings, "lib", "backup"):
        pass
    assert caught.value.on == str(settings.workspace_folder) and "workspace" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_workspace_of_somebody_else_is_refused(settings: Settings) -> None:
    settings.workspace_folder.mkdir(parents=True)
    os.chown(settings.workspace_folder, 4711, 4711)
    with pytest.raises(Untrusted), workspace.lock(settings, "lib", "backup"):
        pass


def test_a_store_that_others_share_is_allowed_if_the_workspace_is_ours(settings: Settings) -> None:
    settings.workspace_folder.parent.mkdir(parents=True, exist_ok=True)
    settings.workspace_folder.parent.chmod(0o3777)
    with workspace.lock(settings, "lib", "backup"):
        assert stat.S_IMODE(settings.workspace_folder.stat().st_mode) & 0o777 == 0o700
