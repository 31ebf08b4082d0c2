"""Paths are walked once, and links are followed only if their owner gains nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptorium.errors import Untrusted
from scriptorium.fs.descriptors import folder_at, open_file, require_ours

SOMEBODY, ANOTHER = 4711, 4712
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="links of other users are made by root alone")


def content(path: Path) -> bytes:
    descriptor = open_file(path)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "book").write_bytes(b"text")
    yield tmp_path


def link(path: Path, target: Path | str, owner: int | None = None) -> Path:
    path.symlink_to(target)
    if owner is not None:
        os.chown(path, owner, owner, follow_symlinks=False)
    return path


@pytest.mark.parametrize("way", ["a/b", "a/./b/", "a/b/../b", "absolute", "relative", "over", "through"])
def test_a_folder_is_reached_as_the_kernel_reaches_it(tree: Path, way: str) -> None:
    link(tree / "absolute", tree / "a" / "b")
    link(tree / "relative", "a/b")
    link(tree / "over", "a/../relative")
    link(tree / "top", ".")
    (tree / "through").mkdir() if way != "through" else link(tree / "through", "top/absolute")
    way = "top/relative" if way == "through" else way
    if way == "over":
        assert content(tree / "over" / "book") == b"text"
    with folder_at(tree / way) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), Path(tree / way).stat())


@pytest.mark.parametrize("name", ["round", "nowhere", "nowhere/inside", "a/b/book/inside", "missing"])
def test_what_the_kernel_refuses_is_refused(tree: Path, name: str) -> None:
    link(tree / "round", "round")
    link(tree / "nowhere", "no/such/folder")
    with pytest.raises(OSError) as theirs:
        (tree / name).stat()
    with pytest.raises(OSError) as ours, folder_at(tree / name):
        pass
    assert ours.value.errno == theirs.value.errno
    assert ours.value.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR)


def test_a_relative_path_and_the_root_itself(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "a")
    with folder_at(Path("b")) as descriptor:
        assert os.listdir(descriptor) == ["book"]  # noqa: PTH208 -- a descriptor
    with folder_at(Path("/")) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), Path("/").stat())


@root_only
def test_a_link_of_somebody_to_what_is_not_theirs_is_not_followed(tree: Path) -> None:
    secret = tree / "a" / "b" / "book"
    planted = link(tree / "planted", secret, SOMEBODY)
    with pytest.raises(Untrusted, match=f"link of user {SOMEBODY} leads to what belongs to user 0"):
        open_file(planted)
    with pytest.raises(Untrusted), folder_at(link(tree / "folder", "a", SOMEBODY)):
        pass
    with pytest.raises(Untrusted):
        open_file(tree / "folder" / "b" / "book")


@root_only
def test_links_of_the_owner_of_root_and_ours_are_followed(tree: Path) -> None:
    book = tree / "a" / "b" / "book"
    os.chown(book, SOMEBODY, SOMEBODY)
    assert content(link(tree / "own", book, SOMEBODY)) == b"text"
    assert content(link(tree / "roots", book)) == b"text"
    with pytest.raises(Untrusted):
        content(link(tree / "anothers", book, ANOTHER))
    with pytest.raises(Untrusted):  # by way of a link of the owner
        content(link(tree / "two", tree / "own", ANOTHER))


@root_only
def test_what_is_held_stays_what_it_is_when_its_name_is_given_to_something_else(tree: Path) -> None:
    (tree / "trap").mkdir()
    with folder_at(tree / "a" / "b") as descriptor:
        (tree / "a" / "b").rename(tree / "away")
        link(tree / "a" / "b", tree / "trap", SOMEBODY)
        assert os.listdir(descriptor) == ["book"]  # noqa: PTH208 -- a descriptor


def test_ours_is_what_belongs_to_us_and_nobody_else_may_write(tree: Path) -> None:
    with folder_at(tree / "a") as descriptor:
        os.fchmod(descriptor, 0o755)
        require_ours(descriptor, tree / "a")
        for mode in (0o775, 0o757, stat.S_ISVTX | 0o777):
            os.fchmod(descriptor, mode)
            with pytest.raises(Untrusted, match="others may write"):
                require_ours(descriptor, tree / "a")
        if os.geteuid() == 0:
            os.fchmod(descriptor, 0o700)
            os.fchown(descriptor, SOMEBODY, SOMEBODY)
            with pytest.raises(Untrusted, match=f"belongs to user {SOMEBODY}"):
                require_ours(descriptor, tree / "a")


def test_a_pipe_does_not_block(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    os.close(open_file(tree / "pipe"))
