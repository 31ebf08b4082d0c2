"""The server of a demo or a drill starts for every user and every place of the clone and TMPDIR."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from scriptorium.errors import ToolFailed
from scriptorium.sources.postgres import server_user
from scriptorium.sources.postgres.embedded import EmbeddedPostgres, server_folders

WHEELS = [folder for folder in server_folders() if not str(folder).startswith("/usr/")]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root switches users")
ASK = """
import psycopg
from scriptorium.sources.postgres.embedded import EmbeddedPostgres
with EmbeddedPostgres() as server:
    print(psycopg.connect(server.address()).execute("SELECT 'answers'").fetchone()[0])
"""


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The programs of a server, below a folder that only root may enter: a clone in /root."""
    if not WHEELS:
        pytest.skip("the extra 'embedded' is not installed")
    folder = tmp_path / "root of Bücher"
    folder.mkdir()
    wheel = WHEELS[0].parents[1]
    for name in (f"{wheel.name}/{WHEELS[0].parent.name}", f"{wheel.name}.libs"):
        shutil.copytree(wheel.parent / name, folder / name, symlinks=True)
    folder.chmod(0o700)
    return folder / wheel.name / WHEELS[0].parent.name / "bin"


def answers(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.address()) as session:
        return session.execute("SELECT 1").fetchone() == (1,)


@as_root
def test_it_starts_from_below_a_folder_that_only_root_may_enter(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a TMPDIR there, of a length that no socket's path may have."""
    deep = closed.parent / ("t" * 100) / ("m" * 100)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with EmbeddedPostgres(closed) as server:
        assert answers(server)
        assert server.programs == closed
        assert not server.folder.is_relative_to(deep)
        held = (server.folder / "data").stat()
        assert stat.S_IMODE(held.st_mode) == 0o700 and pwd.getpwuid(held.st_uid).pw_name == "nobody"
        assert server.folder.stat().st_uid == 0, "whoever else runs as nobody plants nothing where root writes"
    assert not server.folder.exists()
    assert list(deep.iterdir()) == []


@as_root
def test_a_folder_that_was_asked_for_holds_the_programs_where_they_cannot_be_run(closed: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="scriptorium-test-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        with EmbeddedPostgres(closed, folder=folder / "server") as server:
            assert answers(server)
    finally:
        shutil.rmtree(folder)


@as_root
def test_where_it_can_be_run_from_no_folder_the_error_names_them_and_leaves_nothing(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_user, "_PLACES", ())
    with pytest.raises(ToolFailed, match="no folder in which the user nobody can run it") as caught:
        EmbeddedPostgres(closed, inside=closed)
    assert str(closed) in caught.value.hint and "TMPDIR" in caught.value.hint
    assert not list(closed.glob("scriptorium-pg-*"))


@as_root
def test_what_a_killed_one_left_is_removed_an_hour_later_and_what_others_own_is_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    ours, others, young = (tmp_path / f"scriptorium-pg-{name}" for name in ("ours", "others", "young"))
    for folder, owner in ((ours, nobody.pw_uid), (others, 4711), (young, nobody.pw_uid)):
        (folder / "programs").mkdir(parents=True)
        os.chown(folder, owner, -1)
        if folder is not young:
            os.utime(folder, (time.time() - 7200,) * 2)
    postgres_embedded_sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scriptorium-pg-others", "scriptorium-pg-young"]


def postgres_embedded_sweep(folder: Path) -> None:
    """What every new server does first, in the place where it wants its folder."""
    EmbeddedPostgres(inside=folder).stop()


@as_root
@pytest.mark.parametrize("uid", [65534, 12345], ids=["an ordinary user", "a number without a name"])
def test_it_starts_for_an_ordinary_user(uid: int, tmp_path: Path) -> None:
    """The second one if this machine lets users make namespaces; otherwise the error has a hint."""
    home = Path(tempfile.mkdtemp(prefix="scriptorium test é ", dir="/tmp"))
    project = Path(__file__).parents[4]
    readable = subprocess.run(["setpriv", f"--reuid={uid}", "--clear-groups", "test", "-r", __file__]).returncode == 0
    if not readable:
        shutil.rmtree(home)
        pytest.skip("the checkout is below a folder that only root may enter")
    os.chown(home, uid, -1)
    try:
        child = subprocess.run(
            ["setpriv", f"--reuid={uid}", "--regid=65534", "--clear-groups", sys.executable, "-c", ASK],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(home), "PYTHONPATH": str(project)},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        left = [path.name for path in home.iterdir()]
        shutil.rmtree(home)
    if child.returncode and "initdb asks for its name" in child.stderr:
        assert uid == 12345
        pytest.skip("no user namespaces here")
    assert (child.returncode, child.stdout.strip()) == (0, "answers"), child.stderr[-2000:]
    assert left == []
