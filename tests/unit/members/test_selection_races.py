"""A user who may write in a tree changes it during the walk: nothing outside the tree is reached."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scriptorium.errors import Untrusted
from scriptorium.fs.descriptors import Descent, folder_at
from scriptorium.fs.removal import remove_tree
from scriptorium.members import Found, select
from scriptorium.members.remarks import Remark
from scriptorium.model import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("a/b/book", "a/z", "c/d"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for name in ("a/b/book", "book", "b/book", "d", "z"):  # whatever is looked for there is there
        (tmp_path / "secret" / name).parent.mkdir(parents=True, exist_ok=True)
        if not (tmp_path / "secret" / name).is_dir():
            (tmp_path / "secret" / name).write_text("secret")
    return root


def walked(
    root: Path, on: str, change: Callable[[], None], **more: tuple[str, ...]
) -> tuple[dict[str, str], list[Remark]]:
    """The contents by path, of a walk during which ``change`` happens at ``on``."""
    remarks: list[Remark] = []
    contents: dict[str, str] = {}
    for found in select(Tree(str(root), "", **more), remarks.append):
        if found.path == on:
            change()
        if found.kind == "file":
            try:
                with os.fdopen(found.open(), "r") as file:
                    contents[found.path] = file.read()
            except OSError:
                contents[found.path] = "refused"
    return contents, remarks


@pytest.mark.parametrize("folder", ["a", "a/b", "c"])
def test_a_link_in_the_place_of_a_folder_that_was_met_is_not_entered(tree: Path, folder: str) -> None:
    def change() -> None:
        (tree / folder).rename(tree.parent / "away")
        (tree / folder).symlink_to(tree.parent / "secret")

    contents, remarks = walked(tree, folder, change)
    assert "secret" not in contents.values()
    assert [one.path for one in remarks] == [folder]


@pytest.mark.parametrize("folder", ["a", "a/b"])
def test_a_folder_that_is_being_walked_stays_what_it_is(tree: Path, folder: str) -> None:
    def change() -> None:
        (tree / folder).rename(tree.parent / "away")
        (tree / folder).symlink_to(tree.parent / "secret")

    contents, _ = walked(tree, "a/b/book", change)
    assert contents == {"a/b/book": "a/b/book", "a/z": "a/z", "c/d": "c/d"}


def test_a_link_in_the_place_of_a_file_is_not_read(tree: Path) -> None:
    def change() -> None:
        (tree / "a/b/book").unlink()
        (tree / "a/b/book").symlink_to(tree.parent / "secret/book")

    assert walked(tree, "a/b/book", change)[0]["a/b/book"] == "refused"


def test_a_pipe_in_the_place_of_a_file_does_not_block(tree: Path) -> None:
    def change() -> None:
        (tree / "a/b/book").unlink()
        os.mkfifo(tree / "a/b/book")

    assert walked(tree, "a/b/book", change)[0]["a/b/book"] == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="links of other users are made by root alone")
def test_a_root_that_is_a_link_to_data_of_another_owner_is_refused(tree: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.symlink_to(tmp_path / "secret")
    os.chown(planted, 4711, 4711, follow_symlinks=False)
    with pytest.raises(Untrusted, match="link of user 4711"):
        list(select(Tree(str(planted), "files"), pytest.fail))
    for path in (tmp_path / "secret", *(tmp_path / "secret").rglob("*")):
        os.chown(path, 4711, 4711)
    assert list(select(Tree(str(planted), "files"), pytest.fail))


def chain(root: Path, depth: int) -> Path:
    """A folder with so many nested folders, and a file in the last one; longer than any path."""
    root.mkdir()
    descent = Descent(os.open(root, os.O_RDONLY))
    for _ in range(depth):
        os.mkdir(b"x" * 20, dir_fd=descent.descriptor)
        descent.enter(b"x" * 20)
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=descent.descriptor))
    descent.close()
    return root


def test_more_levels_than_may_be_open_and_a_longer_path_than_the_system_takes(tmp_path: Path) -> None:
    root = chain(tmp_path / "deep", 1_500)
    try:
        (root / "zz").write_text("after")
        found = {one.path: one.kind for one in select(Tree(str(root), ""), pytest.fail)}
        assert len(found) == 1_502
        assert found["zz"] == "file"
    finally:
        remove_tree(root)


def test_a_folder_that_was_moved_while_it_was_closed_is_lost_by_name(tmp_path: Path) -> None:
    root = chain(tmp_path / "deep", 300)
    (root / "zz").write_text("after")
    remarks: list[Remark] = []
    seen: list[Found] = []
    for one in select(Tree(str(root), ""), remarks.append):
        seen.append(one)
        if one.kind == "file" and one.path.endswith("end"):
            (tmp_path / "other").mkdir()
            inside = root / ("x" * 20) / ("x" * 20)
            (inside / ("x" * 20)).rename(tmp_path / "other" / "moved")  # what is above the open ones is another now
    assert seen[-1].path == "zz"
    assert all(one.lost and one.text == "was moved while it was read" for one in remarks)
    assert remarks
    for left in (root, tmp_path / "other"):
        remove_tree(left)


def test_descents_leave_no_descriptor_open(tree: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    walk = select(Tree(str(tree), ""), pytest.fail)
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    list(select(Tree(str(tree), ""), pytest.fail))
    with folder_at(tree):
        pass
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
