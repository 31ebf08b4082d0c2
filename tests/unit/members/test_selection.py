"""Which files are saved: include, exclude, our own folders, odd files, and what cannot be read."""

# Names are bytes here, which Path cannot hold.
# ruff: noqa: PTH102, PTH109

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scriptorium.errors import NotFound
from scriptorium.fs.descriptors import folder_at
from scriptorium.fs.ours import write_marker
from scriptorium.members import select, survey
from scriptorium.members.remarks import Remark
from scriptorium.model import Survey, Tree


def make(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(name)
    return root


def paths(tree: Tree) -> list[str]:
    return [found.path for found in select(tree, pytest.fail)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(
        tmp_path / "root",
        "config.py",
        ".env",
        "data/covers/a.jpg",
        "data/covers/b.png",
        "data/covers/deep/c.jpg",
        "data/logs/app.log",
        "data/empty/",
        "data/config.py",
    )


def test_everything_folders_first_in_byte_order(root: Path) -> None:
    assert paths(Tree(str(root), "top")) == [
        "top",
        "top/.env",
        "top/config.py",
        "top/data",
        "top/data/config.py",
        "top/data/covers",
        "top/data/covers/a.jpg",
        "top/data/covers/b.png",
        "top/data/covers/deep",
        "top/data/covers/deep/c.jpg",
        "top/data/empty",
        "top/data/logs",
        "top/data/logs/app.log",
    ]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("/config.py", ".env"), (), [".env", "config.py"]),
        (("config.py",), (), ["config.py", "data", "data/config.py"]),
        (("data/covers/",), ("*.png",), "data data/covers data/covers/a.jpg data/covers/deep data/covers/deep/c.jpg"),
        (("*.jpg",), ("deep/",), ["data", "data/covers", "data/covers/a.jpg"]),
        (("nothing",), (), []),
        (("data/empty",), (), ["data", "data/empty"]),
        ((), ("data",), [".env", "config.py"]),
        ((), ("data/**",), [".env", "config.py", "data"]),
    ],
)
def test_include_and_exclude(root: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: object) -> None:
    wanted = expected.split() if isinstance(expected, str) else expected
    assert paths(Tree(str(root), "", include=include, exclude=exclude)) == wanted


def test_a_tree_may_be_one_file(root: Path) -> None:
    assert paths(Tree(str(root / "config.py"), "settings/config.py")) == ["settings/config.py"]
    assert paths(Tree(str(root / "config.py"), "")) == ["config.py"]


def test_the_root_may_be_a_symlink_and_nothing_below_is_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    (root / "data" / "loop").symlink_to(root)
    found = {each.path: each for each in select(Tree(str(tmp_path / "link"), ""), pytest.fail)}
    assert found["data/loop"].kind == "symlink"
    assert found["data/loop"].target == str(root)
    assert "data/loop/config.py" not in found


def test_the_store_inside_the_tree_is_left_out(root: Path) -> None:
    make(root, "data/backups/old.tar.gz")
    assert "data/backups" in paths(Tree(str(root), ""))
    tree = Tree(str(root), "", never=(str(root / "data" / "backups"),))
    assert not [path for path in paths(tree) if path.startswith("data/backups")]


def test_the_store_is_known_by_any_of_its_paths(root: Path, tmp_path: Path) -> None:
    make(root, "data/backups/old.tar.gz")
    (tmp_path / "alias").symlink_to(root / "data")
    tree = Tree(str(root), "", never=(str(tmp_path / "alias" / "backups"),))
    assert not [path for path in paths(tree) if path.startswith("data/backups")]


def test_the_store_is_known_through_a_bind_mount(root: Path, tmp_path: Path) -> None:
    store = make(tmp_path / "store", "old.tar.gz")
    (root / "data" / "backups").mkdir()
    script = (
        "import sys; from scriptorium.members import select; from scriptorium.model import Tree\n"
        f"found = [f.path for f in select(Tree({str(root)!r}, '', never=({str(store)!r},)), print)]\n"
        "sys.exit(any('backups' in path for path in found))"
    )
    mount = f"mount --bind {store} {root}/data/backups && ls {root}/data/backups/old.tar.gz"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("bind mounts are not allowed here")
    command = f'{mount} && exec {sys.executable} -c "$0"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", command, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_root_that_is_the_store_is_skipped_and_reported(root: Path) -> None:
    message: list[Remark] = []
    assert not list(select(Tree(str(root), "x", never=(str(root),)), message.append))
    assert "backups are written here" in str(message[0])


def test_a_staged_image_in_the_workspace_is_packed_though_the_workspace_is_never_entered(root: Path) -> None:
    assert paths(Tree(str(root / "data" / "covers"), "c", never=(str(root),)))[0] == "c"


def test_our_own_files_are_left_out(root: Path) -> None:
    """A folder of ours is recognised by its mark; every other folder with such a name is the user's."""
    staged = "data/.scriptorium-restore-0123456789ab-data"
    make(root, f"{staged}/x", "data/.scriptorium-notes", ".scriptorium-restore-0123456789ab-mine/diary")
    with folder_at(root / staged) as opened:
        write_marker(opened, "0123456789ab")
    message: list[Remark] = []
    found = [one.path for one in select(Tree(str(root), ""), message.append)]
    assert {"data/.scriptorium-notes", ".scriptorium-restore-0123456789ab-mine/diary"} <= set(found)
    assert not [path for path in found if path.startswith(staged)]
    assert message == [Remark(staged, "a folder that a restore of ours made, skipped")]


def test_what_another_tree_brings_is_left_out(root: Path) -> None:
    tree = Tree(str(root), "")
    found = [each.path for each in select(tree, pytest.fail, frozenset({"data/covers", "config.py"}))]
    assert found == [".env", "data", "data/config.py", "data/empty", "data/logs", "data/logs/app.log"]


def test_sockets_pipes_and_devices_are_skipped_by_name(root: Path) -> None:
    os.mkfifo(root / "data" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket must be short
        listener.bind("data/sock")
        os.chdir(here)
    made = []
    try:
        os.mknod(root / "data" / "null", 0o600 | 0o020000, os.makedev(1, 3))
        made.append("data/null: a device, skipped")
    except PermissionError:
        pass
    message: list[Remark] = []
    found = [each.path for each in select(Tree(str(root), ""), message.append)]
    assert not any(one.lost for one in message)  # they hold no data
    assert sorted(map(str, message)) == sorted([*made, "data/pipe: a pipe, skipped", "data/sock: a socket, skipped"])
    assert not {"data/pipe", "data/sock", "data/null"} & set(found)


def test_an_unreadable_folder_is_reported_and_the_rest_is_saved(root: Path, as_nobody: Any) -> None:
    (root / "data" / "logs").chmod(0)
    message: list[Remark] = []
    with as_nobody():
        found = [each.path for each in select(Tree(str(root), ""), message.append)]
    (root / "data" / "logs").chmod(0o755)
    assert message == [Remark("data/logs", "cannot be read (Permission denied), skipped", lost=True)]
    assert "data/covers/a.jpg" in found and "data/logs" in found


def test_what_vanishes_during_the_walk_is_reported(root: Path) -> None:
    message: list[Remark] = []
    found = []
    for each in select(Tree(str(root), ""), message.append):
        found.append(each.path)
        if each.path == "data/covers/a.jpg":  # the names of this folder are listed by now
            (root / "data/covers/b.png").unlink()
            (root / "data/covers/deep/c.jpg").unlink()
            (root / "data/covers/deep").rmdir()
    assert message == [
        Remark("data/covers/b.png", "vanished before it was read"),
        Remark("data/covers/deep", "vanished before it was read"),
    ]
    assert "data/logs/app.log" in found


def test_a_missing_root() -> None:
    with pytest.raises(NotFound):
        list(select(Tree("/nowhere/at/all", "x"), pytest.fail))
    assert not list(select(Tree("/nowhere/at/all", "x", optional=True), pytest.fail))


def test_a_survey_counts_without_reading(root: Path) -> None:
    os.truncate(root / ".env", 1 << 40)  # a file that could not be read within any test's time
    holes = (1 << 40) - (root / ".env").stat().st_blocks * 512
    size = (1 << 40) + sum(len(name) for name in ("config.py", "data/config.py"))
    assert survey([Tree(str(root), "", include=(".env", "config.py"))]) == Survey(size, 3, holes=holes)


def test_a_deep_tree_is_walked_without_recursion(tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    assert len(paths(Tree(str(tmp_path), ""))) == 1500
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # too deep for pytest's own cleaning
