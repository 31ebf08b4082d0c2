"""A library that the tests of restores remove and restore, and processes that die in the middle."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.manifest import new_id
from scriptorium.operations import restore as restore_module
from scriptorium.operations.backup import backup
from scriptorium.operations.restore import restore
from scriptorium.requests import BackupRequest, RestoreRequest
from scriptorium.restore import Supply, recover
from scriptorium.results import Restored
from scriptorium.settings import Settings, load
from scriptorium.sources import RestoreOptions
from scriptorium.words import BackupType

FolderState = dict[str, tuple[object, ...]]


def state_of(folder: Path, *, ours: bool = False) -> FolderState:
    """Every byte, mode, owner and time of files, modes and owners of folders; without a restore's own folders."""
    found: FolderState = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        inside = str(path.relative_to(folder))
        if not ours and (".scriptorium" in inside or inside.startswith("data/backups")):
            continue
        info = path.lstat()
        common = (stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        if path.is_symlink():
            found[inside] = (*common, os.readlink(path))  # noqa: PTH115  exactly as it was written
        elif path.is_dir():
            found[inside] = common
        else:
            found[inside] = (*common, path.read_bytes(), info.st_mtime_ns)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and ".scriptorium" not in str(path.relative_to(folder))
    }


def take(settings: Settings, type: BackupType = BackupType.FULL) -> str:
    return backup(settings, BackupRequest(type=type, to=["local"])).backup.id


def supply_of(settings: Settings, reference: str = "latest", *, rebuild: bool = False, **how: Any) -> Supply:
    catalog = Catalog(settings)
    copy = catalog.copy_of(catalog.find(reference))
    return Supply(
        settings.store(copy.store),
        copy.key,
        catalog.manifest(copy),
        **how,
        options=RestoreOptions.chosen({"rebuild": rebuild}),
    )


def in_place(settings: Settings, supply: Supply) -> Restored:
    """The restore in place of what ``supply`` has, without a safety backup."""
    request = RestoreRequest(
        reference=supply.manifest.id,
        store=supply.store.name,
        only=supply.only,
        rebuild=supply.options.kuzu.rebuild,
        safety=False,
    )
    return restore(settings, request).restored


def recovered(settings: Settings) -> tuple[str, ...]:
    with workspace.lock(settings, settings.library().name, "recover"):
        return recover(settings, settings.library())


@dataclasses.dataclass(frozen=True)
class Home:
    """A tree with excluded entries in it, and the store; a single file; configuration at the top."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return load(self.folder / "scriptorium.toml", {})

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def change(self) -> None:
        """Change everything in a library after its backup."""
        (self.data / "covers" / "a.jpg").write_bytes(b"overwritten")
        (self.data / "covers" / "new.jpg").write_bytes(b"came later")
        shutil.rmtree(self.data / "uploads")
        (self.data / "notes.txt").unlink()
        (self.data / "notes.txt").mkdir()
        (self.data / "notes.txt" / "x").write_bytes(b"a folder now")
        (self.data / "log" / "app.log").write_bytes(b"excluded, newer")
        (self.folder / "app.conf").write_bytes(b"changed")
        (self.folder / "etc" / ".env").unlink()


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """Libraries are made once and copied for every test, in memory if possible, so that no test waits for a disk."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tmp_path(memory: Path) -> Iterator[Path]:
    folder = memory / new_id()
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@pytest.fixture
def home(memory: Path, tmp_path: Path) -> Home:
    if not (memory / "home").exists():
        make_home(memory / "home")
    copy(memory / "home", tmp_path / "home")
    Catalog(Home(tmp_path / "home").settings).rebuild()
    return Home(tmp_path / "home")


def make_home(folder: Path) -> None:
    for path, content in {
        "data/covers/a.jpg": os.urandom(40_000),
        "data/covers/sub/b.jpg": os.urandom(2000),
        "data/uploads/c.txt": b"c",
        "data/notes.txt": b"notes",
        "data/log/app.log": b"excluded",
        "data/log/kept.txt": b"not excluded",
        "data/" + os.fsdecode(b"\xff.txt"): b"odd",
        "etc/.env": b"SECRET=1",
        "etc/other": b"not ours",
        "app.conf": b"x = 1",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "data" / "empty").mkdir(mode=0o751)
    (folder / "data" / "link").symlink_to("../app.conf")
    (folder / "data" / "covers" / "again.jpg").hardlink_to(folder / "data" / "covers" / "a.jpg")
    (folder / "etc" / ".env").chmod(0o600)
    (folder / "scriptorium.toml").write_text(
        "[libraries.lib]\nsources = [\n"
        '  { name = "data", kind = "files", path = "data", exclude = ["*.log"] },\n'
        '  { name = "conf", kind = "files", path = "app.conf", role = "config" },\n'
        '  { name = "etc", kind = "files", path = "etc", at = "", include = ["/.env"], role = "config" },\n'
        ']\n[stores.local]\nkind = "local"\npath = "data/backups"\n'
    )
    take(Home(folder).settings)


SAVED = (
    "data/covers/a.jpg",
    "data/covers/again.jpg",
    "data/covers/sub/b.jpg",
    "data/uploads/c.txt",
    "data/notes.txt",
    "data/log/kept.txt",
    "data/" + os.fsdecode(b"\xff.txt"),
)


def ask_health(home: Home, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], None]) -> None:
    """Give the library a health check, which is ``ask``."""
    file = home.folder / "scriptorium.toml"
    file.write_text(file.read_text().replace("[libraries.lib]\n", '[libraries.lib]\nhealth = { command = ["true"] }\n'))
    monkeypatch.setattr(restore_module, "require_healthy", lambda _: ask())


def saved(home: Home) -> dict[str, bytes]:
    """What the backup contains, by its path in the archive."""
    found = {path: (home.folder / path).read_bytes() for path in SAVED}
    return found | {
        "conf": (home.folder / "app.conf").read_bytes(),
        ".env": (home.folder / "etc" / ".env").read_bytes(),
    }


def damage(home: Home) -> None:
    backup = Catalog(home.settings).find("latest")
    archive = Path(home.settings.store("local").location(backup.copies[0].key))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1  # in a picture, which cannot be compressed
    archive.write_bytes(data)
