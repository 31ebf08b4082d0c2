"""Files that cannot be read, that vanish and that grow, during every operation: reported by name, and never a loss."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import driver
import pytest
from matrix import Ended

from scriptorium.catalog import Catalog
from scriptorium.fs.removal import remove_tree
from scriptorium.operations.drill import drill
from scriptorium.requests import DrillRequest

# Root may read every file; without these two capabilities it may not.
_WITHOUT = "-dac_override,-dac_read_search"
PLAIN_USER = ("setpriv", f"--inh-caps={_WITHOUT}", f"--bounding-set={_WITHOUT}", "--")
OPERATIONS = ("restore", "drill", "verify", "cleanup", "rebuild")


def as_plain_user() -> tuple[str, ...]:
    """The words before a command that make the modes of files effective."""
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


def message(rig: Any, id: str) -> tuple[str, ...]:
    """The warnings of a backup."""
    backup = Catalog(rig.settings).find(id)
    warnings: tuple[str, ...] = Catalog(rig.settings).manifest(backup.copies[0]).warnings
    return warnings


def test_a_living_file_that_cannot_be_read(rig: Any) -> None:
    with unreadable(rig.place.home / "data" / "covers" / "a.jpg"):
        ended = rig.run("backup", {}, before=as_plain_user())
        assert ended.status == 0, ended
    assert [line for line in message(rig, ended.stdout) if line.startswith("data/covers/a.jpg: ")]
    assert rig.living == rig.old
    rig.require_tidy()


def test_living_files_that_vanish_and_grow_while_they_are_read(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    covers = rig.place.home / "data" / "covers"
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
    taken = rig.again("backup")
    assert did
    warnings = message(rig, taken)
    assert "data/covers/vanishes.jpg: vanished before it was read" in warnings
    assert [line for line in warnings if line.startswith("data/covers/grows.jpg: ")], warnings
    grows.unlink()
    assert {(taken, "local"), (taken, "second")} <= rig.copies()
    rig.require_tidy()


def archive_and_manifest(rig: Any) -> tuple[Path, Path]:
    """Those of the copy that a restore of the oldest backup, and a cleanup, use first."""
    key = Catalog(rig.settings).backups(records=False)[-1].copies[0].key
    store = rig.settings.store("local")
    return Path(store.location(key)), Path(store.location(f"{key}.json"))


QUICK = {
    ("restore", "archive", "unreadable"),
    ("cleanup", "manifest", "unreadable"),
    ("rebuild", "manifest", "unreadable"),
    ("restore", "archive", "grow"),
    ("verify", "archive", "vanish"),
    ("drill", "archive", "grow"),
    ("cleanup", "manifest", "vanish"),
}


def rows(*faults: str, operations: Sequence[str] = OPERATIONS) -> list[Any]:
    return [
        pytest.param(
            operation,
            which,
            fault,
            id=f"{operation}-{which}-{fault}",
            marks=() if (operation, which, fault) in QUICK else (pytest.mark.slow,),
        )
        for operation in operations
        for which in ("archive", "manifest")
        for fault in faults
    ]


# What has to read this file; everything else uses the other copy.
REFUSED = {("restore", "archive"), ("drill", "archive"), ("verify", "archive"), ("verify", "manifest")}


@pytest.mark.parametrize(("operation", "which", "fault"), rows("unreadable", operations=(*OPERATIONS, "list")))
def test_a_stored_file_that_cannot_be_read(rig: Any, operation: str, which: str, fault: str) -> None:
    file = archive_and_manifest(rig)[which == "manifest"]
    if operation == "drill":
        file = file.with_name(file.name.replace(oldest(rig), newest(rig)))
    if operation == "cleanup":
        rig.removed = {id for id, _ in rig.before} - {rig.newest}
    expected = undisturbed(rig, operation)
    forget_indexes(rig)
    with unreadable(file):
        ended = rig.run(operation, {}, before=as_plain_user())
        if (operation, which) in REFUSED:
            assert ended.status == 1 and ended.stdout == "", ended
            assert ended.stderr.startswith("error: the store does not answer: permission denied to the user "), ended
            assert str(file) in ended.stderr.splitlines()[0]
            assert rig.living == rig.old
        else:
            assert (ended.status, ended.stderr) == (0, ""), ended
            assert rig.living == (rig.new if operation == "restore" else rig.old)
            if (operation, which) == ("list", "manifest"):  # this copy is not trusted; the other one is
                unknown = {one for one in ended.stdout.split(",") if one not in expected}
                assert [one.partition(":")[2] for one in unknown] == ["local:damaged"], ended
                assert len(set(ended.stdout.split(",")) & set(expected.split(","))) == 3, ended
            else:
                assert ended.stdout == expected
    rig.require_sound()
    rig.again(operation)
    assert rig.living == (rig.new if operation == "restore" else rig.old)
    if operation == "cleanup":
        assert rig.copies() == {(rig.newest, "local"), (rig.newest, "second")}
    rig.require_tidy(after_grace=True)


def undisturbed(rig: Any, operation: str) -> str:
    """What the operation prints if nothing is wrong."""
    first = Catalog(rig.settings).backups(records=False)[-1].id
    everything = driver.listed(rig.settings)
    return {"restore": first, "cleanup": first, "rebuild": "4", "list": everything}.get(operation, "")


def oldest(rig: Any) -> str:
    return _archive_name(rig, -1)


def newest(rig: Any) -> str:
    return _archive_name(rig, 0)


def _archive_name(rig: Any, number: int) -> str:
    return str(Catalog(rig.settings).backups(records=False)[number].copies[0].key.rpartition("/")[2])


def forget_indexes(rig: Any) -> None:
    for store in rig.settings.stores.values():
        (store.folder / "backup_index.json").unlink(missing_ok=True)


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


GROWN = "something else follows the end of the gzip stream"


@pytest.mark.parametrize(("operation", "which", "fault"), rows("vanish", "grow"))
def test_a_stored_file_that_vanishes_or_grows_meanwhile(rig: Any, operation: str, which: str, fault: str) -> None:
    """In the middle of each operation; afterwards the file is as before, as when a disk is plugged in again."""
    names = newest(rig) if operation in ("drill", "verify") else oldest(rig)
    archive, manifest = archive_and_manifest(rig)
    file = manifest if which == "manifest" else archive
    file = file.with_name(file.name.replace(oldest(rig), names))
    if operation == "cleanup":
        rig.removed = {id for id, _ in rig.before} - {rig.newest}
    expected = undisturbed(rig, operation)
    forget_indexes(rig)
    gate = rig.place.folder / "gate"
    with rig.started(operation, {POINT[operation]: f"wait:{gate}"}) as child:
        until = time.monotonic() + 60
        while not Path(f"{gate}.here").exists():
            assert child.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        back = FAULTS[fault](file)
        gate.touch()
        ended = rig.heard(child)
    if which == "archive" and operation in ("restore", "drill", "verify"):
        require_reported(rig, operation, fault, file, ended)
    else:
        assert ended == Ended(0, expected, ""), ended
    restored = operation == "restore" and ended.status == 0
    assert rig.living == (rig.new if restored else rig.old), "what failed changed something"
    if operation == "cleanup":
        Path(f"{file.parent}/..{file.name}").unlink(missing_ok=True)  # it was to be removed
    else:
        back()
    if operation == "drill":  # the result of a drill counts until a drill of the same copy succeeds
        assert drill(rig.settings, DrillRequest(store="local")).proof.proven
    rig.again(operation)
    rig.require_tidy(after_grace=True)


def require_reported(rig: Any, operation: str, fault: str, file: Path, ended: Ended) -> None:
    """Whatever had to read the archive reports that it was missing, or larger than recorded."""
    annotations = rig.settings.store("local").annotations(f"{rig.library}/{file.name}")
    if operation == "verify":
        assert ended == Ended(0, f"{rig.newest}:local", ""), ended
        (message,) = annotations.verification.damage if annotations.verification else ()
        assert message.startswith("missing archive" if fault == "vanish" else "unreadable archive"), message
        assert fault == "vanish" or GROWN in message
    elif fault == "vanish":
        assert ended == Ended(5, "", f"error: no such object: {file}"), ended
        assert annotations.proof is None, "what was not there is no verdict"
    elif operation == "drill":  # found during the read: a verdict of the drill, and its command ends with 3
        assert ended.status == 0 and ended.stdout.startswith(GROWN), ended
        assert annotations.proof and not annotations.proof.proven and annotations.proof.differences[0].startswith(GROWN)
    else:
        assert ended.status == 3 and ended.stderr.startswith(f"error: {GROWN}"), ended


@pytest.mark.slow
def test_folders_in_folders_a_thousand_deep(rig: Any) -> None:
    """Deeper than Python's recursion limit: saved, drilled, restored, and removed again."""
    top = rig.place.home / "data" / "uploads" / "deep"
    top.mkdir(parents=True)
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    taken = rig.again("backup")
    assert rig.again("drill") == ""
    assert driver.restore(rig.settings, taken) == taken
    assert rig.again("undo") == taken
    rig.again("cleanup")
    rig.removed = {id for id, _ in rig.before}
    remove_tree(top)
    rig.require_tidy(after_grace=True)
