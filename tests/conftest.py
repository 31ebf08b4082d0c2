"""What every folder of tests shares: a small real library and its settings, and the two layouts of Kuzu."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from scriptorium import settings as settings_module
from scriptorium.settings import Settings, load

os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"


@dataclass(frozen=True)
class Place:
    """A Bibliotheca library on disk, with the settings that protect it."""

    folder: Path
    home: Path
    backups: Path
    config: Path

    @property
    def database(self) -> Path:
        return self.home / "data" / "kuzu" / "bibliotheca.db"

    @property
    def settings(self) -> Settings:
        return load(self.config, {})

    def execute(self, *queries: str) -> list[list[object]]:
        """Run queries on the living database; returns the rows of the last one."""
        import kuzu

        database = kuzu.Database(str(self.database))
        connection = kuzu.Connection(database)
        rows: list[list[object]] = []
        for query in queries:
            result = connection.execute(query)
            rows = []
            while result.has_next():
                rows.append(result.get_next())
            result.close()
        connection.close()
        database.close()
        return rows


def make_place(folder: Path, books: int = 50) -> Place:
    """A library of a few books, covers and settings."""
    home = folder / "library"
    place = Place(folder, home, folder / "backups", folder / "scriptorium.toml")
    for name in ("kuzu", "covers/sub", "uploads", "logs", "locks"):
        (home / "data" / name).mkdir(parents=True)
    place.execute(
        "CREATE NODE TABLE Book(id STRING, title STRING, pages INT64, PRIMARY KEY(id))",
        "CREATE NODE TABLE Person(id STRING, name STRING, PRIMARY KEY(id))",
        "CREATE REL TABLE AUTHORED(FROM Person TO Book, role STRING)",
        f"UNWIND range(1, {books}) AS i "
        "CREATE (:Book {id: CAST(i AS STRING), title: 'Title ' + CAST(i AS STRING), pages: i})",
        "UNWIND range(1, 10) AS i CREATE (:Person {id: CAST(i AS STRING), name: 'Person ' + CAST(i AS STRING)})",
        "MATCH (p:Person), (b:Book) WHERE p.id = b.id CREATE (p)-[:AUTHORED {role: 'author'}]->(b)",
    )
    (home / "data" / "covers" / "a.jpg").write_bytes(os.urandom(2000))
    (home / "data" / "covers" / "sub" / "b.jpg").write_bytes(os.urandom(3000))
    (home / "data" / "uploads" / "notes.txt").write_text("notes\n" * 100)
    (home / "data" / "ai_config.json").write_text("{}")
    (home / "data" / "logs" / "app.log").write_text("volatile")
    (home / "config.py").write_text("DEBUG = False\n")
    (home / ".env").write_text("SECRET_KEY=very-secret-value\n")
    (home / ".env").chmod(0o600)
    (home / "docker-compose.yml").write_text("services: {}\n")
    (home / "requirements.txt").write_text("flask\n")
    place.config.write_text(
        '[libraries.bibliotheca]\npreset = "bibliotheca"\nhome = "library"\n\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture(scope="session")
def new_place() -> Callable[..., Place]:
    return make_place


@pytest.fixture
def chosen(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The library of ``place``, with its settings as those of this process."""
    monkeypatch.setenv(settings_module.CONFIG_VARIABLE, str(place.config))
    yield place


_TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    """The module ``kuzu_lab``."""
    if "kuzu_lab" not in sys.modules:
        spec = importlib.util.spec_from_file_location("kuzu_lab", _TESTS / "kuzu_lab.py")
        assert spec is not None and spec.loader is not None
        sys.modules["kuzu_lab"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["kuzu_lab"])
    return sys.modules["kuzu_lab"]


@pytest.fixture(scope="session")
def old_kuzu(lab: ModuleType) -> Path:
    """A folder with kuzu 0.10.0 in it."""
    cache = Path(os.environ.get("SCRIPTORIUM_TEST_CACHE") or _TESTS.parent / ".cache")
    try:
        return Path(lab.old_engine(cache))
    except OSError as error:
        pytest.skip(f"kuzu 0.10.0 cannot be had: {error}")
