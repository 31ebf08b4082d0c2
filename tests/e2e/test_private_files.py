"""Everything that is written is open only to its user, from the beginning, whatever the umask of the process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scriptorium.server.embedded_server import keep_private


def too_open(folder: Path, seen: dict[str, int]) -> None:
    """Record every file and folder below that gives others any right."""
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if not stat.S_ISLNK(mode) and mode & 0o077:
                        seen[entry.path] = stat.S_IMODE(mode)
                    if stat.S_ISDIR(mode):
                        waiting.append(Path(entry.path))
        except OSError:
            continue  # it was removed just now


@contextmanager
def watched(*folders: Path) -> Iterator[dict[str, int]]:
    """Look again and again during the block."""
    seen: dict[str, int] = {}
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for folder in folders:
                too_open(folder, seen)
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
        for folder in folders:
            too_open(folder, seen)


def test_nothing_that_is_written_is_open_to_others(
    place: Any, prefect_home: Callable[[Path], Path], server: str, tmp_path: Path
) -> None:
    """In a workspace that existed before, and that everybody may enter.

    The server that a command embeds writes the same files for each command: two commands have one.
    """
    backups, temporary = place.backups, tmp_path / "tmp"
    home = prefect_home(tmp_path / "prefect")
    for path in (home, *home.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    for folder in (backups, backups / ".scriptorium", temporary):
        folder.mkdir(exist_ok=True, parents=True)
        folder.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    variables |= {"PREFECT_HOME": str(home), "TMPDIR": str(temporary), "SCRIPTORIUM_CONFIG": str(place.config)}
    command = Path(sys.executable).with_name("scriptorium")
    with watched(backups, temporary, home) as seen:
        for words, api in (
            (("create",), ""),
            (("drill",), server),
            (("verify", "--all"), server),
            (("export", "--format", "csv", "--output", str(tmp_path / "out")), server),
            (("restore", "latest", "--yes"), ""),
        ):
            env = variables | ({"PREFECT_API_URL": api} if api else {})
            done = subprocess.run(
                [command, *words], env=env, cwd=tmp_path, umask=0, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
    del seen[str(backups / ".scriptorium")]
    # Files with recorded modes, or with the modes of the living data, are in a folder that nobody else may enter.
    staged = {path for path in seen if "/raw/" in path or "/restored/" in path}
    assert seen.keys() - staged == set()
    assert all(path.startswith(f"{backups}/.scriptorium/staging/") for path in staged)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


@pytest.mark.parametrize("there", [None, 0o644, 0o664])
def test_the_database_of_the_runs_is_private_whatever_the_mode_of_the_folder(tmp_path: Path, there: int | None) -> None:
    """In a folder with a default access list, the umask has no effect on new files."""
    database = tmp_path / "prefect.db"
    subprocess.run(["setfacl", "-d", "-m", "u::rwx,u:1005:rwx,g::rwx,o::rwx", str(tmp_path)], check=False)
    if there is not None:
        database.touch()
        database.chmod(there)
    keep_private(database)
    with contextlib.closing(sqlite3.connect(database)) as session:
        session.execute("PRAGMA journal_mode = WAL")
        session.execute("CREATE TABLE runs (id int)")
        session.commit()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("prefect.db", "prefect.db-shm", "prefect.db-wal"), 0o600)
    linked = tmp_path / "linked.db"
    (tmp_path / "elsewhere").touch(mode=0o644)
    linked.symlink_to("elsewhere")
    (tmp_path / "elsewhere").chmod(0o644)
    keep_private(linked)
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o644


def test_a_command_of_the_user_s_makes_files_as_it_always_does(tmp_path: Path) -> None:
    script = (
        "import os; os.umask(0o027)\n"
        "from scriptorium import process, umask\n"
        "umask.keep_private()\n"
        "for name, users in (('ours', False), ('theirs', True)):\n"
        f"    process.run(['touch', {str(tmp_path)!r} + '/' + name], users=users)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"ours": 0o600, "theirs": 0o640}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_the_way_to_living_data_is_as_its_user_makes_folders(tmp_path: Path, umask: int) -> None:
    script = (
        f"import os; os.umask({umask})\n"
        "from pathlib import Path\n"
        "from scriptorium import umask\n"
        "umask.keep_private()\n"
        f"umask.make_folders(Path({str(tmp_path)!r}, 'a', 'b'))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")} == {0o777 & ~(umask | 0o022)}
