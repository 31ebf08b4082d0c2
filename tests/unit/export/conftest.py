"""Real archives to export from: of a Kuzu library, and of a PostgreSQL database on a server of the newest generation."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from scriptorium.demo.embedded_postgres import EmbeddedPostgres, major_version, server_folders
from scriptorium.model import Compression, Manifest
from scriptorium.settings import Settings, load

_TESTS = Path(__file__).resolve().parents[2]
_MEMORY = Path("/dev/shm")
MOMENT = datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="session")
def real_backup() -> ModuleType:
    if "real_backup" not in sys.modules:
        spec = importlib.util.spec_from_file_location("real_backup", _TESTS / "real_backup.py")
        assert spec is not None and spec.loader is not None
        sys.modules["real_backup"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["real_backup"])
    return sys.modules["real_backup"]


@pytest.fixture
def take(real_backup: ModuleType) -> Callable[..., Manifest]:
    """A backup of the only library, each a day after the one before."""
    taken: list[Manifest] = []

    def one(settings: Settings, compression: Compression = Compression.GZIP, **more: Any) -> Manifest:
        taken.append(real_backup.take(settings, MOMENT + timedelta(days=len(taken)), compression=compression, **more))
        return taken[-1]

    return one


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    folders = {major_version(folder): folder for folder in server_folders()}
    if not folders:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
    running = EmbeddedPostgres(folders[max(folders)], inside=_MEMORY if _MEMORY.is_dir() else None).start()
    yield running
    running.stop()


@pytest.fixture
def database(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Callable[..., tuple[str, Settings]]]:
    """Make a database of some SQL; returns its URL and the settings of a library that is this database."""
    made: list[str] = []

    def make(script: str, name: str = "library", creating: str = "") -> tuple[str, Settings]:
        with psycopg.connect(server.address(), autocommit=True) as session:
            session.execute(f'CREATE DATABASE "{name}" {creating}')
        made.append(name)
        with psycopg.connect(server.address(name), autocommit=True) as session:
            session.execute(script)
        config = tmp_path / "scriptorium.toml"
        config.write_text(
            f'[libraries.lib]\nsources = [{{ name = "db", kind = "postgres", database = "{server.address(name)}" }}]\n'
            '[stores.local]\nkind = "local"\npath = "backups"\n'
        )
        return server.address(name), load(config, {})

    yield make
    for name in made:
        with psycopg.connect(server.address(), autocommit=True) as session:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
