"""Trees are removed completely: deep ones, unreadable ones, and nothing beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scriptorium.fs.removal import remove_tree


def deep(folder: Path, levels: int) -> None:
    """A chain of folders, with a file, a link and a second folder in each."""
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        os.mkdir("empty", dir_fd=here)
        os.symlink("/etc", "link", dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


@pytest.mark.parametrize("levels", [0, 3, 1100])
def test_however_deep_it_is(tmp_path: Path, levels: int) -> None:
    deep(tmp_path / "tree", levels)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == [] and Path("/etc/passwd").exists()


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "tree")


# Root may do what modes forbid; without these two it may not.
PLAIN = ("setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search", "--")


@pytest.mark.parametrize("levels", [4, 1100])
def test_whatever_its_folders_allow(tmp_path: Path, levels: int) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("this needs setpriv, or not to be root")
    deep(tmp_path / "tree", levels)
    for name in ("tree/d/d", "tree/d/empty", "tree/d", "tree"):
        (tmp_path / name).chmod(0)
    code = "import pathlib, sys, scriptorium.fs.removal as removal; removal.remove_tree(pathlib.Path(sys.argv[1]))"
    argv = [*(PLAIN if os.geteuid() == 0 else ()), sys.executable, "-c", code, str(tmp_path / "tree")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_that_its_own_modes_protect_is_removed(tmp_path: Path) -> None:
    """Not root: a restored folder of mode 0555 or 0000 stands in the way of its own removal."""
    user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"] if os.geteuid() == 0 else []
    if user and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv to become another user")
    tree = Path("/tmp") / f"scriptorium-test-{os.getpid()}"  # where that user may come
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("x")
    for folder, mode in ((tree / "a" / "b" / "c", 0o000), (tree / "a" / "b", 0o000), (tree / "a", 0o555)):
        folder.chmod(mode)
    try:
        if user:
            for path in (tree, *tree.rglob("*")):
                os.chown(path, 54321, 54321)
        source = Path(__file__).parents[3] / "scriptorium" / "fs" / "removal.py"
        script = (
            "import sys, types, pathlib\n"
            "module = types.ModuleType('removal')\n"
            "exec(compile(sys.stdin.read(), 'removal', 'exec'), module.__dict__)\n"
            f"module.remove_tree(pathlib.Path({str(tree / 'a')!r}))\n"
        )
        child = subprocess.run(
            [*user, sys.executable, "-c", script], input=source.read_text(), capture_output=True, text=True, cwd="/"
        )
        if "ermission" in child.stderr and "remove_tree" not in child.stderr:
            pytest.skip("another user cannot run this interpreter")
        assert child.returncode == 0, child.stderr
        assert not (tree / "a").exists()
    finally:
        shutil.rmtree(tree, ignore_errors=True)
