"""Real archives to export from: of Kuzu databases, and of PostgreSQL ones on a server of the newest generation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kuzu
import psycopg
import pytest
import real_backup
from postgres_server import postgres_server

from scriptorium.model import Manifest
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres.connection import sql
from scriptorium.sources.postgres.embedded import EmbeddedPostgres, major_version, server_folders

FIXED_TIME = datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    folders = {major_version(folder): folder for folder in server_folders()}
    if not folders:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
    running = postgres_server(folders[max(folders)]).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def make_database(server: EmbeddedPostgres) -> Callable[..., tuple[str, Settings]]:
    """Make a database of some SQL; returns its URL and the settings of a library that is this database."""
    numbers = itertools.count(1)

    def make(script: str, folder: Path, creating: str = "", dump: str = "auto") -> tuple[str, Settings]:
        name = f"library_{next(numbers)}"
        with psycopg.connect(server.address(), autocommit=True) as session:
            session.execute(sql(f'CREATE DATABASE "{name}" {creating}'))
        with psycopg.connect(server.address(name), autocommit=True, client_encoding="UTF8") as session:
            if "SQL_ASCII" in creating:
                session.execute("SET client_encoding = 'SQL_ASCII'")
            session.execute(sql(script))
        config = folder / "scriptorium.toml"
        config.write_text(
            f'[libraries.lib]\nsources = [{{ name = "db", kind = "postgres", database = "{server.address(name)}",'
            f' dump = "{dump}" }}]\n'
            '[stores.local]\nkind = "local"\npath = "backups"\n'
        )
        return server.address(name), load(config, {})

    return make


@pytest.fixture(scope="session")
def instant() -> datetime:
    return FIXED_TIME


TYPES = {
    "i": ("INT64", "-9223372036854775808"),
    "u": ("UINT64", "18446744073709551615"),
    "d": ("DOUBLE", "0.1"),
    "nan": ("DOUBLE", "CAST('NaN' AS DOUBLE)"),
    "inf": ("DOUBLE", "CAST('-Infinity' AS DOUBLE)"),
    "b": ("BOOL", "true"),
    "blob": ("BLOB", "BLOB('\\\\xAB\\\\x00c')"),
    "day": ("DATE", "date('1066-10-14')"),
    "ts": ("TIMESTAMP", "timestamp('2024-02-29 12:00:00.123456')"),
    "tz": ("TIMESTAMP_TZ", "CAST('2024-02-29 12:00:00+02' AS TIMESTAMP_TZ)"),
    "uuid": ("UUID", "uuid('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')"),
    "l": ("STRING[]", "['a', '', 'é\"', NULL]"),
    "ll": ("INT64[][]", "[[1, 2], [3]]"),
    "m": ("MAP(STRING, INT64)", "map(['k', 'j'], [1, 2])"),
}
_KINDS = ", ".join(f"{name} {kind}" for name, (kind, _) in TYPES.items())
_VALUES = ", ".join(f"{name}: {value}" for name, (_, value) in TYPES.items())
NASTY = [
    "",
    " ",
    'quo"te',
    "comma, and",
    "line\nbreak",
    "car\r\nriage",
    "tab\t",
    "back\\slash",
    "\\N",
    "=1+1",
    "é漢😀",
    "NULL",
]


GRAPH = (
    "CREATE NODE TABLE Book(id STRING, title STRING, pages INT64, PRIMARY KEY(id))",
    *(
        ("CREATE (:Book {id: $id, title: $title})", {"id": f"n{number}", "title": text})
        for number, text in enumerate(NASTY)
    ),
    "CREATE (:Book {id: 'null', title: NULL, pages: 7})",
    f"CREATE NODE TABLE Every(id INT64, {_KINDS}, PRIMARY KEY(id))",
    f"CREATE (:Every {{id: 1, {_VALUES}}}), (:Every {{id: 2}})",
    "CREATE NODE TABLE Empty(id INT64, PRIMARY KEY(id))",
    'CREATE NODE TABLE `Odd, "one" é`(`key col` SERIAL, `from` STRING, PRIMARY KEY(`key col`))',
    'UNWIND range(1, 30000) AS i CREATE (:`Odd, "one" é` {`from`: CAST(i AS STRING)})',
    "CREATE REL TABLE CITES(FROM Every TO Book, FROM Book TO Book, `from` STRING, page INT64)",
    "CREATE REL TABLE KNOWS(FROM Every TO Every, since DATE)",
    "MATCH (a:Every {id: 1}), (b:Book {id: 'n2'}) CREATE (a)-[:CITES {`from`: 'x', page: 1}]->(b)",
    "MATCH (a:Book {id: 'n1'}), (b:Book {id: 'n2'}) CREATE (a)-[:CITES {page: 2}]->(b)",
    "MATCH (a:Every {id: 1}), (b:Every {id: 2}) CREATE (a)-[:KNOWS {since: date('2020-01-01')}]->(b)",
)


@dataclass(frozen=True)
class Graph:
    """A Kuzu database of every type, its settings, and the backup that was taken of it."""

    path: Path
    settings: Settings
    manifest: Manifest

    @property
    def archive(self) -> Path:
        assert self.manifest.archive is not None
        return self.path.parent / "backups" / "lib" / self.manifest.archive.name

    def ask(self, query: str) -> list[list[Any]]:
        """The rows of the database."""
        database = kuzu.Database(str(self.path), read_only=True)
        connection = kuzu.Connection(database)
        answer = connection.execute(query)
        assert isinstance(answer, kuzu.QueryResult)
        rows: list[list[Any]] = []
        while answer.has_next():
            rows.append(list(answer.get_next()))
        connection.close()
        database.close()
        return rows


@pytest.fixture(scope="session")
def new_graph() -> Callable[..., Graph]:
    """Make a database of some queries and back it up."""

    def make(folder: Path, *queries: str | tuple[str, dict[str, Any]], **more: Any) -> Graph:
        path = folder / "graph.db"
        database = kuzu.Database(str(path))
        connection = kuzu.Connection(database)
        for query in queries:
            connection.execute(*((query,) if isinstance(query, str) else query))
        connection.close()
        database.close()
        (folder / "scriptorium.toml").write_text(
            '[libraries.lib]\nsources = [{ name = "graph", kind = "kuzu", path = "graph.db" }]\n'
            '[stores.local]\nkind = "local"\npath = "backups"\n'
        )
        settings = load(folder / "scriptorium.toml", {})
        return Graph(path, settings, real_backup.take(settings, FIXED_TIME, **more))

    return make


@pytest.fixture(scope="session")
def graph(new_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return new_graph(tmp_path_factory.mktemp("graph"), *GRAPH)


@pytest.fixture(scope="session")
def nasty() -> list[str]:
    return NASTY
