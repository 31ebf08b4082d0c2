"""Databases of a few items, their backups, and what reading an archive does with them: for the tests of restores.

A test's child process imports it too.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psycopg

from scriptorium.model import Part, Staged
from scriptorium.sources.postgres.source import PostgresSource

ITEMS = (
    "CREATE TABLE items (id serial PRIMARY KEY, title text); CREATE INDEX ON items (title); "
    "INSERT INTO items (title) SELECT 't' || g FROM generate_series(1, 2000) g;"
)
ID = "0123456789ab"


def back_up(source: PostgresSource, folder: Path) -> tuple[Staged, Part]:
    folder.mkdir()
    source.capture(folder)
    staged = source.examine(folder, ())
    part = Part(
        source=staged.source, kind=staged.kind, path=staged.path, bytes=0, files=0, started_at=staged.started_at,
        finished_at=staged.finished_at, method=staged.method, tables=staged.tables,
        provenance=staged.provenance,
    )  # fmt: skip
    return staged, part


def unpack(staged: Staged, incoming) -> None:
    """What reading an archive does with the members of a part."""
    assert incoming.receive(staged.path).is_dir()
    for tree in staged.trees:
        root = Path(tree.root)
        for file in [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]:
            inside = file.relative_to(root).as_posix()
            place = incoming.receive(tree.at if inside == "." else f"{tree.at}/{inside}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)


def ask(url: str, query: str):
    with psycopg.connect(url, autocommit=True) as session:
        cursor = session.execute(query)
        return cursor.fetchall() if cursor.description else None


def databases(server, base: str) -> set[str]:
    """The database of that name and the databases that a restore named after it, without those of other tests on the
    same server."""
    own = f"datname = '{base}' OR starts_with(datname, '{base}_')"
    found = ask(server.address(), f"SELECT datname FROM pg_database WHERE {own}")
    return {name for (name,) in found}


def schema(programs: Path, url: str) -> str:
    dumped = subprocess.run([programs / "pg_dump", "--schema-only", url], capture_output=True, text=True, check=True)
    return "\n".join(line for line in dumped.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))
