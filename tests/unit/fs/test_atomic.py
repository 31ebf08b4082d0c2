"""Atomic writes: the order of the system calls, and what a failure leaves."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

import pytest
from killed_process import Kill, dying_before, killed

from scriptorium.fs import atomic

ROOT = Path(__file__).parents[3]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every fsync (of a file, of a folder) and every rename, in order."""
    made: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        made.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        made.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    return made


def test_a_write_is_durable_in_this_order(tmp_path: Path, calls: list[str]) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(b"old")
    atomic.write(file, b"new")
    assert file.read_bytes() == b"new" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert calls == ["sync file", "rename", "sync folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_failure_leaves_the_previous_content_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    atomic.write(file, b"old")
    with pytest.raises(ZeroDivisionError), atomic.beside(file) as partial, atomic.new_file(partial) as out:
        out.write(b"ne")
        raise ZeroDivisionError
    assert file.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("kill", "content"),
    [
        (dying_before(os, "fsync", 1), b"old"),
        (dying_before(Path, "replace"), b"old"),
        (dying_before(os, "fsync", 2), b"new"),
    ],
    ids=["before the file is on the disk", "before the rename", "before the folder is on the disk"],
)
def test_a_kill_leaves_the_old_or_the_new_content_whole(tmp_path: Path, kill: Kill, content: bytes) -> None:
    file = tmp_path / "record.json"
    atomic.write(file, b"old")
    assert killed(lambda: atomic.write(file, b"new"), kill)
    assert file.read_bytes() == content
    atomic.sweep(tmp_path, atomic.exactly("record.json"), seconds=0)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.write_bytes(b"theirs")
    (tmp_path / "record.json").symlink_to(others)
    atomic.write(tmp_path / "record.json", b"ours")
    assert others.read_bytes() == b"theirs" and not (tmp_path / "record.json").is_symlink()


def test_a_new_name_is_given_durably_and_replaces_nothing(tmp_path: Path, calls: list[str]) -> None:
    made, place = tmp_path / "made", tmp_path / "place"
    made.write_bytes(b"new")
    atomic.put_new(made, place)
    assert place.read_bytes() == b"new" and calls == ["sync folder"]
    made.unlink()
    made.write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        atomic.put_new(made, place)
    assert place.read_bytes() == b"new"


def test_a_new_name_replaces_nothing_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    made, place = tmp_path / "made", tmp_path / "place"
    made.write_bytes(b"new")
    atomic.put_new(made, place)
    made.write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        atomic.put_new(made, place)
    assert place.read_bytes() == b"new"


def test_a_folder_gets_a_new_name_unless_something_is_in_it(tmp_path: Path) -> None:
    made, place = tmp_path / "made", tmp_path / "place"
    for folder in (made, place):
        folder.mkdir()
    (made / "file").write_bytes(b"new")
    atomic.put_new(made, place)
    assert (place / "file").read_bytes() == b"new" and not made.exists()
    made.mkdir()
    with pytest.raises(FileExistsError):
        atomic.put_new(made, place)


def test_a_folder_that_could_not_be_finished_goes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic.beside(tmp_path / "dump") as partial:
        partial.mkdir()
        (partial / "file").write_bytes(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# Who may bring something to the disk by itself, and why.
_OTHERS = {
    "scriptorium/fs/atomic.py": "it is the one way",
    "scriptorium/fs/places.py": "folders of somebody else's tree, reached through descriptors",
    "scriptorium/fs/switch.py": "the staging folder is held open by its descriptor, whatever its name is",
}


def test_no_other_module_calls_fsync() -> None:
    """Only one module writes durably: two other places had forgotten a step."""
    found = set()
    for file in sorted((ROOT / "scriptorium").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("fsync", "fdatasync"):
                found.add(str(file.relative_to(ROOT)))
    assert found == set(_OTHERS)
