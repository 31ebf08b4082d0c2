"""An Alexandria whose database is streamed into its backups, for the tests of backups and restores."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from scriptorium.demo.alexandria import build_alexandria
from scriptorium.model import Manifest, Part
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres.source import PostgresSource

NOW = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
NAMED = "files that the database names and the backup lacks"


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(PostgresSource, "piece", 16 << 10)


def settings_for(url: str, folder: Path, dump: str = "stream", more: str = "") -> Settings:
    parts = urlsplit(url)
    file = folder / "scriptorium.toml"
    file.write_text(
        f'{more}\n[libraries.alexandria]\npreset = "alexandria"\nhome = "home"\n'
        f'database = "{parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()}"\n'
        f'postgres = {{ password = "{parts.password}", dump = "{dump}", staging = "{folder}" }}\n'
        '[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    return load(file, {})


def part_of(manifest: Manifest) -> Part:
    (part,) = [part for part in manifest.parts if part.kind == "postgres"]
    return part


def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as session:
        answer = session.execute(statement)
        return answer.fetchall() if answer.description else []


@pytest.fixture
def library(server, new_database, tmp_path: Path) -> str:
    url = new_database(server)
    build_alexandria(url, tmp_path / "home", items=120, files=10)
    return url
