"""Files that change, vanish or cannot be read while they are packed: each is reported by name."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.archive import extract_member
from scriptorium.manifest import dumps, loads
from scriptorium.members import remarks
from scriptorium.model import Tree, Unsaved

BIG = 12 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "a-big").write_bytes(os.urandom(BIG))
    (folder / "b-next").write_text("next")
    return folder


def once_after(count: int, act: Callable[[], object]) -> Callable[[int], None]:
    """An ``advance`` that acts once, when so many bytes were read: in the middle of the first file."""
    state = {"read": 0, "done": False}

    def advance(more: int) -> None:
        state["read"] += more
        if state["read"] >= count and not state["done"]:
            state["done"] = True
            act()

    return advance


def contents(packed: Any, name: str) -> bytes:
    with packed.path.open("rb") as stream:
        return extract_member(stream, name)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


@pytest.mark.parametrize("change", [append, overwrite])
def test_a_file_that_changes_is_reported(archives: Any, root: Path, change: Callable[[Path], None]) -> None:
    packed = archives.pack(Tree(str(root), "x"), advance=once_after(5 << 20, lambda: change(root / "a-big")))
    assert packed.manifest.warnings == ("x/a-big: changed while it was read",)
    kept = contents(packed, "x/a-big")
    assert len(kept) == BIG
    assert packed.manifest.files.entries[1].sha256 == hashlib.sha256(kept).hexdigest()
    assert contents(packed, "x/b-next") == b"next"


def test_a_file_that_shrinks_is_filled_with_zeros_and_reported(archives: Any, root: Path, tmp_path: Path) -> None:
    whole = (root / "a-big").read_bytes()
    advance = once_after(5 << 20, lambda: os.truncate(root / "a-big", 100))
    packed = archives.pack(Tree(str(root), "x"), advance=advance)
    (warning,) = packed.manifest.warnings
    assert warning.startswith("x/a-big: changed while it was read: it became shorter, the last ")
    kept = contents(packed, "x/a-big")
    assert len(kept) == BIG
    read = len(kept.rstrip(b"\0"))
    assert kept[:read] == whole[:read] and 0 < read < BIG
    assert f"the last {BIG - read} bytes are zeros" in warning or whole[read - 1 : read] == b"\0"
    assert packed.manifest.files.entries[1].sha256 == hashlib.sha256(kept).hexdigest()
    archives.unpack(packed, tmp_path / "back")  # sound in itself
    assert contents(packed, "x/b-next") == b"next"


def test_a_file_that_vanishes_between_listing_and_reading_is_reported(archives: Any, root: Path) -> None:
    advance = once_after(1, lambda: (root / "b-next").unlink())
    packed = archives.pack(Tree(str(root), "x"), advance=advance)
    assert packed.manifest.warnings == ("x/b-next: vanished before it was read",)
    assert packed.paths == ["x", "x/a-big"]
    assert packed.manifest.parts[0].files == 1


def test_a_file_removed_while_it_is_read_is_whole(archives: Any, root: Path) -> None:
    whole = (root / "a-big").read_bytes()
    packed = archives.pack(Tree(str(root), "x"), advance=once_after(5 << 20, lambda: (root / "a-big").unlink()))
    assert contents(packed, "x/a-big") == whole


def swap_for(kind: str, path: Path) -> None:
    path.unlink()
    if kind == "symlink":
        path.symlink_to("/etc/hostname")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["symlink", "pipe", "folder"])
def test_a_file_that_becomes_something_else_is_reported_and_never_waited_for(
    archives: Any, root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the walk's look at a file and our opening of it there is time for an attack."""
    from scriptorium.members import walk

    original = walk.select

    def select(*arguments: Any) -> Any:
        for found in original(*arguments):
            if found.path == "x/b-next":
                swap_for(kind, root / "b-next")
            yield found

    monkeypatch.setattr(walk, "select", select)
    packed = archives.pack(Tree(str(root), "x"))
    (warning,) = packed.manifest.warnings
    assert warning.startswith("x/b-next: ")
    assert packed.paths == ["x", "x/a-big"]


def test_an_unreadable_file_is_reported(archives: Any, root: Path, as_nobody: Any) -> None:
    (root / "b-next").chmod(0)
    if os.geteuid() == 0:
        for folder in (archives.folder, root):
            os.chown(folder, 65534, 65534)
    with as_nobody():
        packed = archives.pack(Tree(str(root), "x"))
    assert packed.manifest.warnings == ("x/b-next: cannot be read (Permission denied), skipped",)
    lost = Unsaved("x", "x/b-next", "cannot be read (Permission denied), skipped")
    assert packed.manifest.unsaved == (lost,) and packed.manifest.unsaved_count == 1
    assert packed.paths == ["x", "x/a-big"]


def test_a_disk_that_fails_in_the_middle_of_a_file_loses_it(
    archives: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header has a size by then: the rest is zeros, and the file counts as one that could not be saved."""
    real = os.readv
    read: list[int] = []

    def failing(descriptor: int, buffers: Any) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "a-big" and sum(read) > 1 << 20:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        read.append(real(descriptor, buffers))
        return read[-1]

    monkeypatch.setattr(os, "readv", failing)
    packed = archives.pack(Tree(str(root), "x"))
    (lost,) = packed.manifest.unsaved
    assert lost == Unsaved("x", "x/a-big", "cannot be read to its end (Input/output error), the rest is zeros")
    assert len(contents(packed, "x/a-big")) == BIG and contents(packed, "x/b-next") == b"next"


def test_of_thousands_of_unreadable_files_the_first_are_named_and_all_are_counted(
    archives: Any, tmp_path: Path, as_nobody: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remarks, "MOST_UNSAVED", 20)
    monkeypatch.setattr(remarks, "MOST_WARNINGS", 5)
    tree = tmp_path / "many"
    tree.mkdir()
    for number in range(100):
        (tree / f"{number:03}").write_text("x")
        (tree / f"{number:03}").chmod(0)
    for number in range(9):
        os.mkfifo(tree / f"pipe{number}")
    if os.geteuid() == 0:
        for folder in (archives.folder, tree):
            os.chown(folder, 65534, 65534)
    with as_nobody():
        manifest = archives.pack(Tree(str(tree), "x")).manifest
    assert manifest.unsaved_count == 100 and [one.path for one in manifest.unsaved] == [f"x/{n:03}" for n in range(20)]
    assert manifest.warnings[20] == "x: 80 more could not be saved" and len(manifest.warnings) == 21 + 5 + 1
    assert manifest.warnings[-1] == "4 more warnings of this kind are not listed"
    again = loads(dumps(manifest))
    assert again.unsaved == manifest.unsaved and again.unsaved_count == 100


def test_warnings_of_the_source_come_first(archives: Any, root: Path) -> None:
    (root / "b-next").unlink()
    (root / "b-next").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    part = archives.staged("files", Tree(str(root), "x"), warnings=("the clock went backwards",))
    packed = archives.pack(part)
    assert packed.manifest.warnings == ("the clock went backwards", "x/pipe: a pipe, skipped")


def test_fingerprints_that_are_missing_are_recorded_and_warned_of_by_name(archives: Any, root: Path) -> None:
    part = archives.staged("db", Tree(str(root), "x"), missing_fingerprints={"Book": "the reader needs 3 GB"})
    packed = archives.pack(part)
    assert packed.manifest.parts[0].missing_fingerprints == {"Book": "the reader needs 3 GB"}
    assert "no rows and fingerprint of db, Book: the reader needs 3 GB" in packed.manifest.warnings
