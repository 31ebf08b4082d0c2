"""A disk that becomes full at any write: a real small filesystem (ext4, else tmpfs), filled to many levels, and an
injected error at each step, also on machines that can mount none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import ScriptoriumError
from scriptorium.fs import free_space

SIZE = 32 << 20  # bytes of the small filesystem


@pytest.fixture
def small(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, record_property: Any) -> Iterator[Path]:
    """A filesystem of 32 MiB. It is requested before a rig, because the rig is examined once more before this is
    removed.

    ext4 from an image if that can be made and mounted, else in memory; the end of the report names which one.
    """
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small filesystem")
    image = tmp_path_factory.mktemp("disk") / "image"
    if mounted_image(image, folder):
        record_property("filesystem", "ext4")
    elif done("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "scriptorium-test", folder):
        record_property("filesystem", "tmpfs")
    else:
        pytest.skip("no filesystem can be mounted on this machine, neither ext4 from an image nor tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        image.unlink(missing_ok=True)


def mounted_image(image: Path, folder: Path) -> bool:
    """Whether an ext4 filesystem of its own is now mounted there; most containers allow none."""
    if shutil.which("mkfs.ext4") is None:
        return False
    with image.open("wb") as file:
        file.truncate(SIZE)
    return done("mkfs.ext4", "-q", "-F", "-m", "0", image) and done("mount", "-o", "loop", image, folder)


def done(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def fill(folder: Path, left: int) -> Path:
    """Fill the filesystem until ``left`` bytes are free; a filesystem on a disk uses a few of them to record where the
    others are."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    subprocess.run(["sync", "-f", folder], check=True)  # removed files are free, written files are on the disk
    free = shutil.disk_usage(folder).free
    with ballast.open("wb", buffering=0) as file:
        file.write(bytes(max(0, free - left)))  # if even this is too much, only a part of it is written
    return ballast


def needed(rig: Any) -> int:
    """The bytes that one copy needs."""
    return max(copy.bytes for one in Catalog(rig.settings).backups() for copy in one.copies)


def settle(rig: Any, small: Path, where: str) -> None:
    """Put one of the rig's folders on the small filesystem."""
    text = rig.place.config.read_text()
    if where == "workspace":
        text = f'workspace = "{small}/workspace"\n' + text
    else:
        shutil.copytree(rig.place.folder / "second", small / "second")
        text = text.replace('path = "second"', f'path = "{small}/second"')
    rig.place.config.write_text(text)


@pytest.fixture
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test covers the check of free space: in this one the disk becomes full later, during the writes."""
    monkeypatch.setattr(free_space, "require_space", lambda *_, **__: None)


def levels(rig: Any, where: str, count: int) -> list[int]:
    """Free bytes to try: from none to a little more than a backup writes there."""
    most = needed(rig) * 3 if where == "store" else 16 << 20
    return [most * step // count for step in range(count + 1)]


@pytest.mark.parametrize("where", ["store", "workspace"])
@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_backup_onto_a_disk_that_becomes_full(small: Path, rig: Any, no_margin: None, where: str, count: int) -> None:
    settle(rig, small, where)
    outcomes = attempts(rig, small, levels(rig, where, count), lambda: rig.again("backup"))
    assert "done" in outcomes, "one level must be enough"
    assert len(outcomes) > 1, "one level must be too little"
    rig.require_tidy()
    assert rig.living == rig.old


def attempts(rig: Any, small: Path, free: list[int], work: Callable[[], object]) -> set[str]:
    """Try it with less and more space; whatever happens, what was there before is sound. Returns the kinds of
    results."""
    outcomes = set()
    for left in free:
        ballast = fill(small, left)
        try:
            work()
        except ScriptoriumError as error:
            assert re.search("full|space", f"{error} {error.hint}", re.IGNORECASE), repr(error)
            outcomes.add(type(error).__name__)
        except OSError as error:
            pytest.fail(f"{left} bytes free: an error that is none of ours: {error!r}")
        else:
            outcomes.add("done")
        ballast.unlink()
        rig.require_sound()
        rig.require_tidy()
    return outcomes


@pytest.mark.parametrize("count", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_restore_onto_a_disk_that_becomes_full(small: Path, rig: Any, no_margin: None, count: int) -> None:
    beside(rig, small)
    most, outcomes = 16 << 20, set()
    for step in range(count + 1):
        ballast = fill(small, most * step // count)
        try:
            rig.again("restore")
        except ScriptoriumError as error:
            assert re.search("full|space", f"{error} {error.hint}", re.IGNORECASE), repr(error)
            assert rig.living == rig.old
            rig.require_tidy(after_grace=True)
            outcomes.add("refused")
        else:
            outcomes.add("done")
            assert rig.living == rig.new
            rig.again("undo")
        ballast.unlink()
        assert rig.living == rig.old
    assert outcomes == {"refused", "done"}
    rig.again("restore")
    assert rig.living == rig.new
    rig.require_sound()


@pytest.mark.parametrize("operation", ["verify", "cleanup", "rebuild"])
@pytest.mark.parametrize("where", ["store", pytest.param("workspace", marks=pytest.mark.slow)])
def test_looking_after_a_full_disk(small: Path, rig: Any, operation: str, where: str) -> None:
    """What needs no space works without it: verify reports, cleanup frees space, the index is a cache."""
    settle(rig, small, where)
    if where == "store":
        (small / "second" / "backup_index.json").unlink()
    ballast = fill(small, 0)
    rig.removed = {id for id, _ in rig.before} - {rig.newest} if operation == "cleanup" else set()
    rig.again(operation)
    rig.require_sound()
    ballast.unlink()
    rig.again(operation)
    rig.require_sound()
    rig.require_tidy(after_grace=True)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_drill_on_a_disk_that_becomes_full(small: Path, rig: Any, no_margin: None, count: int) -> None:
    settle(rig, small, "workspace")
    outcomes = attempts(rig, small, [(12 << 20) * step // count for step in range(count + 1)], lambda: drilled(rig))
    assert {"done", "NoSpace"} <= outcomes and len(outcomes) < 4, outcomes
    assert rig.living == rig.old


def drilled(rig: Any) -> None:
    assert rig.again("drill") == "", "a full disk is no verdict on a backup"


@pytest.mark.parametrize("where", ["workspace", "library"])
def test_an_undo_on_a_full_disk(small: Path, rig: Any, where: str) -> None:
    """Renames need no space; if even the journal cannot be written, nothing is begun."""
    if where == "library":
        beside(rig, small)
    else:
        settle(rig, small, "workspace")
    rig.again("restore")
    ballast = fill(small, 0)
    try:
        rig.again("undo")
    except ScriptoriumError as error:
        assert re.search("full|space", f"{error} {error.hint}", re.IGNORECASE), repr(error)
        assert rig.living == rig.new
        ballast.unlink()
        rig.again("undo")
    assert rig.living == rig.old
    rig.require_sound()
    rig.require_tidy(after_grace=True)


def beside(rig: Any, small: Path) -> None:
    """The living library on the small filesystem."""
    library = rig.place.home
    shutil.copytree(library, small / "library")
    shutil.rmtree(library)
    library.symlink_to(small / "library")


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_a_database_on_a_disk_that_becomes_full(
    small: Path, database_setup: Any, no_margin: None, operation: str, count: int
) -> None:
    """The workspace, and the folder where a restore unpacks the dump, are on the small filesystem."""
    rig = database_setup
    text = rig.place.config.read_text().replace('staging = "unpacked"', f'staging = "{small}/unpacked"')
    rig.place.config.write_text(f'workspace = "{small}/workspace"\n{text}')
    outcomes = set()
    for step in range(count + 1):
        ballast = fill(small, (5 << 18) * step // count)
        try:
            rig.again(operation)
        except ScriptoriumError as error:
            assert re.search("full|space", f"{error} {error.hint}", re.IGNORECASE), repr(error)
            outcomes.add("refused")
            assert rig.living == rig.old and rig.databases() == {""}
        else:
            outcomes.add("done")
            if operation == "restore":
                assert rig.living == rig.new
                rig.again("undo")
        ballast.unlink()
        assert rig.living == rig.old
        rig.require_no_child()
    assert outcomes == {"refused", "done"}
    rig.require_tidy(after_grace=True)


POINTS = {
    "backup": {
        "take.before-snapshot": 3,
        "take.before-pack": 1,
        "take.packed": 1,
        "upload.before-archive": 2,
        "store.before-rename": 6,
        "upload.before-manifest": 2,
        "take.before-annotations": 2,
    },
    "restore": {
        "restore.journal-open": 1,
        "restore.part-prepared": 3,
        "driver.bytes-moved": 1,
        "restore.unpacked": 1,
        "renames.before-plan": 3,
        "restore.before-kept": 1,
    },
    "drill": {"drill.prepared": 1, "driver.bytes-moved": 1, "drill.unpacked": 1, "store.before-rename": 1},
    "verify": {"store.before-rename": 4, "index.before-rename": 2},
    "cleanup": {"prune.locked": 1, "index.before-rename": 4},
    "rebuild": {"index.before-rename": 2},
}
QUICK = {
    ("backup", "take.before-pack", 1),
    ("backup", "store.before-rename", 1),
    ("backup", "store.before-rename", 5),
    ("backup", "upload.before-manifest", 2),
    ("restore", "renames.before-plan", 2),
    ("verify", "store.before-rename", 1),
}


@pytest.mark.parametrize(
    ("operation", "point", "time"),
    [
        pytest.param(operation, point, time, marks=() if (operation, point, time) in QUICK else pytest.mark.slow)
        for operation, points in POINTS.items()
        for point, times in points.items()
        for time in range(1, times + 1)
    ],
)
def test_a_write_that_finds_no_space(rig: Any, operation: str, point: str, time: int) -> None:
    """The error of a full disk is injected; the command reports it, and the next run succeeds."""
    if point.startswith("index"):
        for store in rig.settings.stores.values():
            (store.folder / "backup_index.json").unlink(missing_ok=True)
    rig.removed = {id for id, _ in rig.before} - {rig.newest} if operation == "cleanup" else set()
    ended = rig.run(operation, {f"{point}#{time}": "FULL"})
    if ended.status == 0:
        allowed = (operation, point) == ("drill", "store.before-rename")  # only the verdict is not kept
        assert allowed or operation in ("verify", "cleanup", "rebuild"), "only what needs no space may succeed"
    else:
        assert "No space left" in ended.stderr or "full" in ended.stderr, ended
        assert rig.living == rig.old
    rig.require_sound()
    rig.require_tidy()
    rig.again(operation)
    rig.require_sound()
    rig.require_tidy(after_grace=True)
