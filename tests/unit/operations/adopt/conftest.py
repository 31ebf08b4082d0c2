"""Old archives as Bibliotheca's own backups laid them out, made of a real library with a real Kuzu database."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kuzu_writer
import pytest

from scriptorium.model import TableFingerprint
from scriptorium.sources.kuzu import reader

IDENTITY = "0f0e0d0c-1111-4222-8333-444455556666"
TAKEN = "2025-07-14T05:39:26.502608"  # by a clock of no known zone
LEFT_OUT = ("backup", "session", "cache")


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@dataclass
class Old:
    """Makes old archives of the library at ``home``; ``expected``: what the last one must bring back, by its path today
    (without the database, which is opened on the way)."""

    home: Path
    folder: Path
    expected: dict[str, bytes] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.home / "data" / "kuzu" / "bibliotheca.db"

    def tree(self, *folders: str) -> dict[str, bytes]:
        """The library's files in these folders (or with these paths), by path."""
        found = contents(self.home)
        return {path: data for path, data in found.items() if path in folders or path.startswith(folders)}

    def zip(
        self,
        name: str,
        members: Mapping[str, bytes | Path],
        metadata: Mapping[str, object] | None,
        *,
        folder: Path | None = None,
    ) -> Path:
        """A zip as the application writes it: files one after another, no folders."""
        archive = (folder or self.folder) / name
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path, what in members.items():
                if isinstance(what, Path):
                    zipped.write(what, path)
                else:
                    zipped.writestr(path, what)
            if metadata is not None:
                zipped.writestr("backup_metadata.json", json.dumps(metadata, indent=2))
        return archive

    def metadata(self, kind: str, **more: object) -> dict[str, object]:
        return {
            "backup_id": IDENTITY,
            "created_at": TAKEN,
            "kuzu_db_path": "/app/data/kuzu",
            "original_size": 12345,
            "backup_type": kind,
            "reason": "manual",
            **more,
        }

    def simple(self, kind: str, name: str = "before the flood_0f0e0d0c.zip", **more: object) -> Path:
        """One of the simple backups; ``kind`` is its ``backup_type``, or ``beta`` for the download of 2.2.1-beta."""
        prefixes = {
            "simple_database_backup": ("", None),
            "simple_database_backup_with_images": ("kuzu/", "static"),
            "simple_database_backup_with_images_and_settings": ("kuzu/", "data"),
            "pre_restore_snapshot": ("kuzu/", None),
            "pre_restore_snapshot_full": ("kuzu/", "data"),
            "beta": ("kuzu/", None),
        }
        prefix, images = prefixes[kind]
        members: dict[str, bytes | Path] = {
            f"{prefix}{path.name}": path for path in sorted(self.database.parent.iterdir()) if path.is_file()
        }
        self.expected = {}
        for inside, data in self.tree("data/covers/", "data/uploads/").items() if images else ():
            members[inside.replace("data/", f"{images}/", 1)] = data
            self.expected[inside] = data
        if kind.endswith(("_settings", "_full")):
            members |= {"config/.env": self.home / ".env", "config/ai_config.json": self.home / "data/ai_config.json"}
            members["config/backup_settings.json"] = b'{"enabled": true}'
            self.expected |= self.tree(".env", "data/ai_config.json")
            self.expected["data/backup_settings.json"] = b'{"enabled": true}'
        if kind == "beta":
            members |= {"books.csv": b"Title\nx\n", "authors.csv": b"Name\ny\n"}
        return self.zip(name, members, None if kind == "beta" else self.metadata(kind, **more))

    def full(self, kind: str = "full", *, early: bool = False, database: Path | None = None) -> Path:
        """A ``.tar.gz`` of the historical system. ``early``: the database in ``kuzu_db/``; ``database``: another one,
        of the folder layout."""
        archive = self.folder / f"{kind}_20250714_053926.tar.gz"
        fields = {
            "backup_id": IDENTITY,
            "backup_type": kind,
            "created_at": TAKEN,
            "app_version": "1.0",
            "python_version": "3.13.0",
            "database_stats": {"sqlite_databases": [], "kuzu_databases": [], "total_size_bytes": 0},
        }
        self.expected = {}
        with tarfile.open(archive, "w:gz") as tar:
            member = tarfile.TarInfo("backup_metadata.json")
            data = json.dumps(fields).encode()
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            if kind in ("full", "data_only", "kuzu_only"):
                self._database(tar, "kuzu_db" if early else "data/kuzu", database)
            if kind in ("full", "data_only"):
                (self.home / "data" / "books.db").write_bytes(b"SQLite format 3\0" + bytes(100))
                self._files(tar, "data/covers/", "data/uploads/", "data/books.db", "data/ai_config.json")
            if kind in ("full", "config_only"):
                self._files(tar, "config.py", ".env", "docker-compose.yml", "requirements.txt")
                self.home.joinpath("pytest.ini").write_text("[pytest]\n")
                tar.add(self.home / "pytest.ini", "pytest.ini")
        return archive

    def _database(self, tar: tarfile.TarFile, prefix: str, database: Path | None) -> None:
        for path in sorted((database or self.database.parent).iterdir()):
            if not path.name.startswith("."):  # hidden files, and so the .wal of the folder layout
                tar.add(path, f"{prefix}/{path.name}")

    def _files(self, tar: tarfile.TarFile, *paths: str) -> None:
        for path, data in self.tree(*paths).items():
            if not any(word in path for word in LEFT_OUT):
                tar.add(self.home / path, path)
                self.expected[path] = data

    def index(self, archive: Path, **row: object) -> None:
        """The application's index beside its archives."""
        whole = {"id": IDENTITY, "created_at": TAKEN, "file_path": f"/app/data/backups/{archive.name}", **row}
        archive.with_name("simple_backup_index.json").write_text(json.dumps({IDENTITY: whole}))


@dataclass(frozen=True)
class App:
    """A library with its settings, its fingerprints, and a maker of old archives of it."""

    place: Any
    old: Old
    tables: Mapping[str, TableFingerprint]

    def left(self) -> list[str]:
        """What is in the stores and in the staging folder."""
        ours = {".holder.json", ".lock", "backup_index.json"}
        found = [path for path in self.place.backups.rglob("*") if path.is_file()]
        return [str(path) for path in found if not path.name.endswith(tuple(ours))]


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """The library that is copied for every test; making one takes half a second."""
    return {}


@pytest.fixture
def app(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, template: dict[str, Any], new_place: Callable[..., Any]
) -> App:
    if not template:
        template["place"] = new_place(tmp_path_factory.mktemp("template"))
        template["tables"] = reader.read(template["place"].database, engine=None).tables
        (template["place"].home / "data" / "kuzu" / ".container_marker").write_text("here\n")
    made = template["place"]
    shutil.copytree(made.folder, tmp_path / "app")
    folder = tmp_path / "app"
    place = type(made)(folder, folder / "library", folder / "backups", folder / "scriptorium.toml")
    (tmp_path / "old").mkdir()
    return App(place, Old(place.home, tmp_path / "old"), template["tables"])


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, bytes]]:
    return contents


@pytest.fixture
def fingerprint() -> Callable[[Path], tuple[object, ...]]:
    """A file as it is: contents, size, times, mode, owner, links."""

    def of(path: Path) -> tuple[object, ...]:
        found = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        return content, found.st_size, found.st_mtime_ns, found.st_mode, found.st_uid, found.st_nlink, found.st_ino

    return of


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Make this machine's time zone another one."""

    def to(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield to
    monkeypatch.delenv("TZ", raising=False)
    time.tzset()


@pytest.fixture(scope="session")
def folder_database(tmp_path_factory: pytest.TempPathFactory, old_kuzu: Path) -> Path:
    """A database of Kuzu 0.10: 40 books."""
    database = tmp_path_factory.mktemp("old") / "kuzu"
    kuzu_writer.script(
        str(old_kuzu),
        database,
        "CREATE NODE TABLE Book(id STRING, title STRING, PRIMARY KEY(id))",
        "UNWIND range(1, 40) AS i CREATE (:Book {id: CAST(i AS STRING), title: 'T' + CAST(i AS STRING)})",
        "CHECKPOINT",
    )
    return database
