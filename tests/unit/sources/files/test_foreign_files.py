"""Files that an application's user may replace at any time: root reads no other file instead."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError, Untrusted
from scriptorium.fs import reflink
from scriptorium.presets.alexandria import looks_like
from scriptorium.presets.surroundings import env_file
from scriptorium.quiesce.pause import _roots
from scriptorium.sources.kuzu import epoch
from scriptorium.sources.kuzu import layout as kuzu_layout
from scriptorium.sources.quiesce import Quiesce

SOMEBODY = 4711
HEADER = b"KUZU\x27\0\0\0"
SECRET = b"root:SECRET=ALEXANDRIA_\n"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what an application's user cannot")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "shadow"
    file.write_bytes(SECRET)
    file.chmod(0o600)
    return file


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "app.db").write_bytes(HEADER + bytes(100_000))
    (folder / "app.db.wal").write_bytes(b"committed")
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1_700_000_000, 1_700_000_000))
        os.chown(path, SOMEBODY, SOMEBODY)
    return folder


def link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)


def nothing_of(secret: Path, folder: Path) -> None:
    assert [path for path in folder.rglob("*") if path.is_file() and SECRET[:8] in path.read_bytes()] == []


@pytest.mark.parametrize("name", ["app.db", "app.db.wal", "app.db.shadow"])
@pytest.mark.parametrize("when", ["before it is found", "before it is copied"])
def test_a_link_in_the_place_of_a_database_is_not_copied(
    theirs: Path, secret: Path, tmp_path: Path, name: str, when: str
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    layout = kuzu_layout.find(theirs / "app.db")
    link(theirs / name, secret)
    with pytest.raises((ScriptoriumError, epoch.EpochEnded)) as caught:
        if when == "before it is found":
            layout = kuzu_layout.find(theirs / "app.db")
            kuzu_layout.storage_version(layout)
        epoch.attempt(layout, raw / "app.db", paused=True)
    assert "root" not in str(caught.value).replace(str(tmp_path), "") and SECRET[:4].hex(" ") not in str(caught.value)
    nothing_of(secret, raw)


def test_a_link_that_comes_while_it_is_copied_is_not_followed(
    theirs: Path, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, real = tmp_path / "raw", reflink.opened
    raw.mkdir()

    def opened(path: Path):
        if path.name.endswith(".wal"):
            link(path, secret)
        return real(path)

    monkeypatch.setattr(reflink, "opened", opened)
    with pytest.raises(Untrusted):
        epoch.attempt(kuzu_layout.find(theirs / "app.db"), raw / "app.db", paused=True)
    nothing_of(secret, raw)


def test_a_pipe_in_the_place_of_a_database_does_not_hold_us(theirs: Path, tmp_path: Path) -> None:
    layout = kuzu_layout.find(theirs / "app.db")
    (theirs / "app.db").unlink()
    os.mkfifo(theirs / "app.db")
    with pytest.raises((ScriptoriumError, epoch.EpochEnded)):
        epoch.attempt(layout, tmp_path / "raw.db", paused=True)


def test_settings_of_an_application_that_are_a_link_to_what_is_roots_are_not_read(theirs: Path, secret: Path) -> None:
    link(theirs / ".env", secret)
    assert not looks_like(theirs)
    with pytest.raises(Untrusted) as caught:
        env_file(theirs / ".env")
    assert "SECRET" not in str(caught.value)
    (theirs / "real.env").write_text("NAME=value\n")
    os.chown(theirs / "real.env", SOMEBODY, SOMEBODY)
    link(theirs / ".env", theirs / "real.env")
    assert env_file(theirs / ".env") == {"NAME": "value"}


@pytest.fixture
def roots_process() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child.pid
        child.kill()


def test_a_pid_file_of_somebodys_does_not_stop_roots_process(theirs: Path, secret: Path, roots_process: int) -> None:
    file = theirs / "app.pid"
    file.write_text(f"{roots_process}\n")
    assert _roots(Quiesce(pid_file=file))() == {roots_process}
    os.chown(file, SOMEBODY, SOMEBODY)
    with pytest.raises(Untrusted):
        _roots(Quiesce(pid_file=file))
    link(file, secret)
    with pytest.raises(Untrusted) as caught:
        _roots(Quiesce(pid_file=file))
    assert "SECRET" not in str(caught.value)
