"""Files that cannot be read, that vanish and that grow, under every operation: said by name, and never a loss."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import driver
import pytest

from scriptorium.catalog import Catalog
from scriptorium.drilling import place_drill, run_drill
from scriptorium.removal import remove_tree

# Root may read what nobody may; without these two it may not.
_WITHOUT = "-dac_override,-dac_read_search"
PLAIN_USER = ("setpriv", f"--inh-caps={_WITHOUT}", f"--bounding-set={_WITHOUT}", "--")
OPERATIONS = ("restore", "drill", "verify", "cleanup", "rebuild")


def as_plain_user() -> tuple[str, ...]:
    """What goes before a command so that the modes of files mean something."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("this needs setpriv, or not to be root")
    return PLAIN_USER if os.geteuid() == 0 else ()


@contextmanager
def unreadable(file: Path) -> Iterator[None]:
    mode = file.stat().st_mode & 0o7777
    file.chmod(0)
    try:
        yield
    finally:
        if file.exists():
            file.chmod(mode)


def being_read(file: Path) -> bool:
    """Whether this process has the file open."""
    return any(os.path.realpath(one) == str(file) for one in Path("/proc/self/fd").iterdir())


def said(house: Any, id: str) -> tuple[str, ...]:
    """The warnings of a backup."""
    backup = Catalog(house.settings).find(id)
    warnings: tuple[str, ...] = Catalog(house.settings).manifest(backup.copies[0]).warnings
    return warnings


def test_a_living_file_that_cannot_be_read(house: Any) -> None:
    with unreadable(house.place.home / "data" / "covers" / "a.jpg"):
        ended = house.run("backup", {}, before=as_plain_user())
        assert ended.status == 0, ended
    assert [line for line in said(house, ended.stdout) if line.startswith("data/covers/a.jpg: ")]
    assert house.living == house.old
    house.require_tidy()


def test_living_files_that_vanish_and_grow_while_they_are_read(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    covers = house.place.home / "data" / "covers"
    grows, vanishes = covers / "grows.jpg", covers / "vanishes.jpg"
    grows.write_bytes(os.urandom(12 << 20))
    vanishes.write_bytes(b"x")
    did = []

    def meanwhile(_: int) -> None:
        if not did and being_read(grows):
            did.append(True)
            vanishes.unlink()
            with grows.open("ab") as file:
                file.write(b"more")

    monkeypatch.setattr(driver, "_moving", meanwhile)
    taken = house.again("backup")
    assert did
    warnings = said(house, taken)
    assert "data/covers/vanishes.jpg: vanished before it was read" in warnings
    assert [line for line in warnings if line.startswith("data/covers/grows.jpg: ")], warnings
    grows.unlink()
    assert {(taken, "local"), (taken, "second")} <= house.copies()
    house.require_tidy()


def archive_and_manifest(house: Any) -> tuple[Path, Path]:
    """Of the copy that a restore of the oldest backup, and a cleanup, take first."""
    key = Catalog(house.settings).backups(records=False)[-1].copies[0].key
    store = house.settings.store("local")
    return Path(store.local_path(key)), Path(store.local_path(f"{key}.json"))


QUICK = {
    ("restore", "archive", "unreadable"),
    ("cleanup", "manifest", "unreadable"),
    ("rebuild", "manifest", "unreadable"),
    ("restore", "archive", "grow"),
    ("verify", "archive", "vanish"),
    ("drill", "archive", "grow"),
    ("cleanup", "manifest", "vanish"),
}


def rows(*faults: str) -> list[Any]:
    return [
        pytest.param(
            operation,
            which,
            fault,
            id=f"{operation}-{which}-{fault}",
            marks=() if (operation, which, fault) in QUICK else (pytest.mark.slow,),
        )
        for operation in OPERATIONS
        for which in ("archive", "manifest")
        for fault in faults
    ]


@pytest.mark.parametrize(("operation", "which", "fault"), rows("unreadable"))
def test_a_stored_file_that_cannot_be_read(house: Any, operation: str, which: str, fault: str) -> None:
    file = archive_and_manifest(house)[which == "manifest"]
    if operation == "drill":
        file = file.with_name(file.name.replace(oldest(house), newest(house)))
    if operation == "cleanup":
        house.doomed = {id for id, _ in house.before} - {house.newest}
    forget_indexes(house)
    with unreadable(file):
        ended = house.run(operation, {}, before=as_plain_user())
        print(ended)
        assert house.living == house.old or (ended.status == 0 and house.living == house.new)
        assert "Traceback" not in ended.stderr, ended.stderr
        if ended.status != 0:
            assert ended.stderr.startswith("error: "), ended
    house.require_sound()
    house.again(operation)
    assert house.living == (house.new if operation == "restore" else house.old)
    house.require_tidy(after_grace=True)


def oldest(house: Any) -> str:
    return _archive_name(house, -1)


def newest(house: Any) -> str:
    return _archive_name(house, 0)


def _archive_name(house: Any, number: int) -> str:
    return str(Catalog(house.settings).backups(records=False)[number].copies[0].key.rpartition("/")[2])


def forget_indexes(house: Any) -> None:
    for store in house.settings.stores.values():
        store.local_path("backup_index.json").unlink(missing_ok=True)


POINT = {
    "restore": "restore.part-prepared#1",
    "drill": "drill.prepared",
    "verify": "verify.before-reading#1",
    "cleanup": "prune.before-backup",
    "rebuild": "index.before-rename",
}


def vanish(file: Path) -> Callable[[], None]:
    aside = file.with_name(f"..{file.name}")
    file.rename(aside)

    def back() -> None:
        aside.replace(file)

    return back


def grow(file: Path) -> Callable[[], None]:
    size = file.stat().st_size
    with file.open("ab") as opened:
        opened.write(b"more than was written")
    return lambda: os.truncate(file, size)


FAULTS: dict[str, Callable[[Path], Callable[[], None]]] = {"vanish": vanish, "grow": grow}


@pytest.mark.parametrize(("operation", "which", "fault"), rows("vanish", "grow"))
def test_a_stored_file_that_vanishes_or_grows_meanwhile(house: Any, operation: str, which: str, fault: str) -> None:
    """In the middle of each operation; afterwards it is as it was, as when a disk is plugged in again."""
    names = newest(house) if operation in ("drill", "verify") else oldest(house)
    archive, manifest = archive_and_manifest(house)
    file = manifest if which == "manifest" else archive
    file = file.with_name(file.name.replace(oldest(house), names))
    if operation == "cleanup":
        house.doomed = {id for id, _ in house.before} - {house.newest}
    forget_indexes(house)
    gate = house.place.folder / "gate"
    with house.started(operation, {POINT[operation]: f"wait:{gate}"}) as child:
        until = time.monotonic() + 60
        while not Path(f"{gate}.here").exists():
            assert child.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        back = FAULTS[fault](file)
        gate.touch()
        status = child.wait(60)
    assert status in (0, 1, 3, 5), status
    assert house.living in (house.old, house.new)
    assert status == 0 or house.living == house.old, "a restore that failed changed something"
    if operation == "cleanup":
        Path(f"{file.parent}/..{file.name}").unlink(missing_ok=True)  # it was to go
    else:
        back()
    if operation == "drill":  # what a drill found holds until a drill of the very same copy finds better
        assert run_drill(house.settings, place_drill(house.settings, "latest", store="local")).proven
    house.again(operation)
    house.require_tidy(after_grace=True)


@pytest.mark.slow
def test_folders_in_folders_a_thousand_deep(house: Any) -> None:
    """More of them than a program may call itself: saved, drilled, restored, and removed again."""
    top = house.place.home / "data" / "uploads" / "deep"
    top.mkdir(parents=True)
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    taken = house.again("backup")
    assert house.again("drill") == ""
    assert driver.restore(house.settings, taken) == taken
    assert house.again("undo") == taken
    house.again("cleanup")
    house.doomed = {id for id, _ in house.before}
    remove_tree(top)
    house.require_tidy(after_grace=True)
