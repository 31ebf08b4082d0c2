"""The second rig: an Alexandria library, its database on a real server, with two backups in two stores."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import driver
import psycopg
from matrix import Rig

from scriptorium.demo.alexandria import build_alexandria
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres.embedded import EmbeddedPostgres
from scriptorium.sources.postgres.fingerprint import relations, take_fingerprints
from scriptorium.sources.postgres.login import Login

Living = dict[str, object]
_WAIT = 20.0  # seconds; a backend notices that its client is gone when it next writes, or when its statement ends
# What the demo's schema lacks: a large object, an enumeration, a column that is computed, partitions, bytes.
MORE = """
CREATE TYPE shelf AS ENUM ('attic', 'cellar');
CREATE TABLE odd (id serial PRIMARY KEY, at shelf, facts jsonb, words text[], raw bytea,
    twice int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO odd (at, facts, words, raw)
    SELECT 'attic', jsonb_build_object('n', g), ARRAY['a', NULL], decode(md5(g::text), 'hex')
    FROM generate_series(1, 9) g;
CREATE TABLE visits (day date NOT NULL, who text) PARTITION BY RANGE (day);
CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE borrowed (id int PRIMARY KEY);
INSERT INTO borrowed VALUES (1), (2);
INSERT INTO visits SELECT date '2025-01-01' + g, 'w' || g FROM generate_series(0, 99) g;
SELECT lo_from_bytea(4711, decode(repeat('0badcafe', 9000), 'hex'));
"""
# What the application did after the backups; all of it is gone when one of them is restored.
LATER = """
DELETE FROM odd WHERE id > 5;
INSERT INTO odd (at) VALUES ('cellar');
ALTER TABLE visits ADD COLUMN why text;
UPDATE items SET title = 'another title' WHERE id % 2 = 0;
CREATE TABLE came_later (id int PRIMARY KEY);
INSERT INTO came_later VALUES (1);
DROP TABLE borrowed;
SELECT lo_unlink(4711);
"""


@dataclass(frozen=True)
class Place:
    """The library's folder, its settings, and the server with its database ``name``."""

    folder: Path
    server: EmbeddedPostgres
    name: str

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def config(self) -> Path:
        return self.folder / "scriptorium.toml"

    @property
    def url(self) -> str:
        return self.server.address(self.name)

    @property
    def settings(self) -> Settings:
        return load(self.config, {})

    def ask(self, query: str, *, database: str = "") -> list[Any]:
        with psycopg.connect(self.server.address(database or self.name), autocommit=True) as session:
            cursor = session.execute(query)
            return cursor.fetchall() if cursor.description else []

    def configure(self, *, dump: str = "stage") -> None:
        """Write the settings. ``dump``: into the workspace first, or directly into the archive (``stream``)."""
        server = self.server
        address = f"postgresql://{server.user}@127.0.0.1:{server.port}/{self.name}"
        self.config.write_text(
            '[libraries.alexandria]\npreset = "alexandria"\nhome = "home"\n'
            f'postgres = {{ database = "{address}", '
            f'password = "{server.password}", tools = "{server.programs}", staging = "unpacked", '
            f'jobs = 2, dump = "{dump}" }}\n'
            '[stores.local]\nkind = "local"\npath = "backups"\n[stores.second]\nkind = "local"\npath = "second"\n'
        )
        self.config.chmod(0o600)


def living(place: Place) -> Living:
    """The living data: every file by its hash, every table by its rows and its fingerprint."""
    state: Living = {}
    for path in sorted(place.home.rglob("*")):
        inside = path.relative_to(place.home).as_posix()
        if ".scriptorium-" not in inside:
            state[inside] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    with Login(database=place.url).address().session() as session:
        for name, table in take_fingerprints(session, relations(session)).tables.items():
            state[f"table {name}"] = [table.rows, table.fingerprint]
    return state


def build(folder: Path, server: EmbeddedPostgres) -> Place:
    """Two backups of one state, a day apart; then the living data is changed."""
    folder.mkdir(parents=True)
    place = Place(folder, server, "alexandria")
    place.ask(f"CREATE DATABASE {place.name}", database="postgres")
    build_alexandria(place.url, place.home, items=30, files=6)
    place.ask(MORE)
    place.configure()
    (folder / "new.json").write_text(json.dumps(living(place), sort_keys=True))
    for days in (2, 1):
        driver.backup(place.settings, now=datetime.now(UTC) - timedelta(days=days))
    place.ask(LATER)
    books = sorted(path for path in (place.home / "library").rglob("*") if path.is_file())
    books[0].unlink()
    books[1].write_bytes(os.urandom(500))
    (place.home / "library" / "later.epub").write_bytes(os.urandom(500))
    return place


class DatabaseRig(Rig):
    """A library with a database: no scratch database and no session may be left either."""

    library = "alexandria"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        stays = {name: state for name, state in self.old.items() if "came_later" in name}
        self.new_in_place: Living = {**self.new, **stays}  # a restore in place leaves tables that are not in the backup

    @property
    def restored(self) -> tuple[Living, ...]:
        return self.new, self.new_in_place

    def require_whole_living(self) -> None:
        if self.living != self.new_in_place:
            super().require_whole_living()

    @property
    def living(self) -> Living:
        return living(self.place)

    def databases(self) -> set[str]:
        """The endings of the names of all databases of this library; the living one has none."""
        own = self.place.name
        found = self.place.ask("SELECT datname::text FROM pg_database", database="postgres")
        return {name.removeprefix(own) for (name,) in found if name == own or name.startswith(f"{own}_")}

    def require_no_child(self) -> None:
        super().require_no_child()
        until = time.monotonic() + _WAIT
        while (left := self._sessions()) and time.monotonic() < until:
            time.sleep(0.05)
        assert left == [], "sessions of ours are left"

    def _sessions(self) -> list[Any]:
        own = self.place.name
        query = (
            "SELECT datname::text, application_name::text, query FROM pg_stat_activity WHERE datname = "
            f"'{own}' OR starts_with(datname, '{own}_') OR application_name LIKE 'scriptorium%'"
        )
        return self.place.ask(query, database="postgres")

    def require_tidy(self, *, after_grace: bool = False) -> None:
        super().require_tidy(after_grace=after_grace)
        scratch = {ending for ending in self.databases() if ending.startswith("_restore_")}
        assert scratch == set(), "a scratch database is left"
        kept = len(list((self.settings.workspace_folder / "restores").glob("*.json")))
        assert len(self.databases()) <= 1 + kept, "more previous databases than restores that can be undone"
        unpacked = self.place.folder / "unpacked"
        assert len(list(unpacked.iterdir()) if unpacked.is_dir() else []) <= kept


def copied(template: Place, folder: Path, name: str) -> DatabaseRig:
    """A rig for one test, with its own database, copied from the one that was built for all."""
    shutil.copytree(template.folder, folder, symlinks=True)
    place = Place(folder, template.server, name)
    place.ask(f"CREATE DATABASE {name} TEMPLATE {template.name}", database="postgres")
    place.configure()
    return DatabaseRig(place)


def removed(place: Place) -> None:
    """Drop the databases of a rig that is not needed any more."""
    for (name,) in place.ask("SELECT datname::text FROM pg_database", database="postgres"):
        if name == place.name or name.startswith(f"{place.name}_"):
            place.ask(f'DROP DATABASE "{name}" WITH (FORCE)', database="postgres")
