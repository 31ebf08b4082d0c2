"""A library that the tests of backups save again and again."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scriptorium.settings import Settings, load

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@dataclasses.dataclass(frozen=True)
class Home:
    """A library that consists of files, with two stores; the first store is inside what is saved."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "scriptorium.toml"

    @property
    def settings(self) -> Settings:
        return load(self.file, {})

    def store(self, name: str = "local") -> Path:
        return Path(self.settings.store(name).location("lib"))

    def names(self, name: str = "local") -> list[str]:
        folder = self.store(name)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def staging(self) -> list[Path]:
        folder = self.settings.workspace_folder / "staging"
        return list(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory if possible: these tests sync often, and must not wait for a disk."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "data" / "covers").mkdir(parents=True)
    (tmp_path / "data" / "covers" / "a.jpg").write_bytes(os.urandom(50_000))
    (tmp_path / "data" / "notes.txt").write_text("notes")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "app.conf").write_text("x = 1")
    (tmp_path / "scriptorium.toml").write_text(
        '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" },'
        ' { name = "conf", kind = "files", path = "etc/app.conf", role = "config" }]\n'
        '[stores.local]\nkind = "local"\npath = "data/backups"\n[stores.second]\nkind = "local"\npath = "second"\n'
    )
    return Home(tmp_path)
