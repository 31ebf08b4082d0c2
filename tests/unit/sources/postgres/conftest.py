"""Real PostgreSQL servers: one of every generation that can be had here, started when first asked for.

Found: the system's (/usr/lib/postgresql), those of the extra ``embedded``, and the folders of programs named in
SCRIPTORIUM_TEST_POSTGRES (separated by colons).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_items import ITEMS, ask, back_up
from postgres_server import postgres_server

from scriptorium.sources.postgres.embedded import EmbeddedPostgres, major_version, server_folders
from scriptorium.sources.postgres.source import PostgresSource

_NAMED = [Path(folder) for folder in os.environ.get("SCRIPTORIUM_TEST_POSTGRES", "").split(":") if folder]
PROGRAMS = {major_version(folder): folder for folder in [*server_folders(), *_NAMED]}
_running: dict[int, EmbeddedPostgres] = {}
_numbers = itertools.count(1)

# Every type and every kind of relation that a dump may hold.
EVERYTHING = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE place AS (shelf text, slot int);
CREATE DOMAIN isbn AS text CHECK (length(VALUE) = 13);
CREATE TABLE all_types (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, z text, a text, empty text, nothing text, m mood, p place, i isbn,
    j jsonb, js json, arr text[], nested int[][], by bytea, n numeric, f4 real, f8 float8, b bool, d date, t time,
    ts timestamp, tstz timestamptz, iv interval, u uuid, ip inet, r int4range, bits bit(5), money money, tsv tsvector,
    pt point, doubled int GENERATED ALWAYS AS (length(z) * 2) STORED);
INSERT INTO all_types (z, a, empty, nothing, m, p, i, j, js, arr, nested, by, n, f4, f8, b, d, t, ts, tstz, iv, u, ip,
    r, bits, money, tsv, pt)
SELECT 'z' || g, E'quo"te, back\\\\slash\\nline\\ttab é 漢', '', NULL, (ARRAY['sad', 'ok', 'happy']::mood[])[g % 3 + 1],
    ROW('A,"1"', g)::place, lpad(g::text, 13, '9'), jsonb_build_object('b', g, 'a', NULL, 'é', ARRAY[1, 2]),
    '{"b":1,  "a": [2]}', ARRAY['x', NULL, '', 'a,b"c'], ARRAY[[1, 2], [3, g]], decode(md5(g::text), 'hex'),
    CASE g WHEN 1 THEN 'NaN'::numeric ELSE g + 0.10 END, g / 3.0, CASE g WHEN 1 THEN float8 '-0'
    WHEN 2 THEN float8 'Infinity' ELSE g * float8 '1e-300' END, g % 2 = 0, date '1066-10-14' + g,
    time '12:00' + g * interval '1 s',
    CASE g WHEN 1 THEN '-infinity'::timestamp ELSE timestamp '2024-02-29 12:00:00.123456' + g * interval '1 day' END,
    timestamptz '2024-03-31 02:30:00+02' + g * interval '1 hour', g * interval '1 month 2 days 00:00:03',
    md5(g::text)::uuid, '10.0.0.1'::inet + g, int4range(g, g + 5), g::bit(5), g::numeric::money,
    to_tsvector('simple', 'quick brown fox ' || g), point(g, g / 7.0)
FROM generate_series(1, 50) g;
CREATE TABLE "Weird ""Name"", x" ("Column; 1" int, "é" text);
INSERT INTO "Weird ""Name"", x" VALUES (1, 'ü'), (1, 'ü'), (2, NULL);
CREATE TABLE nobody ();
INSERT INTO nobody DEFAULT VALUES;
CREATE TABLE bare (x int);
CREATE TABLE logs (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE logs_2023 PARTITION OF logs FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE logs_2024 PARTITION OF logs FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO logs SELECT date '2023-06-01' + g * 30, 'l' || g FROM generate_series(0, 15) g;
CREATE TABLE parent (x int);
CREATE TABLE child (y int) INHERITS (parent);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 3), (4, 5);
CREATE UNLOGGED TABLE cache (k text, v text);
INSERT INTO cache VALUES ('a', 'b');
CREATE SCHEMA other;
CREATE TABLE other.bare (y int);
CREATE SEQUENCE never_asked;
CREATE SEQUENCE "O'dd ""seq"". x" MAXVALUE 7;
CREATE SEQUENCE other.asked START 5 INCREMENT BY 7;
SELECT nextval('other.asked'), nextval('other.asked');
CREATE MATERIALIZED VIEW moods AS SELECT m, count(*) AS many FROM all_types GROUP BY m;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) AS many FROM bare;
INSERT INTO bare VALUES (1);
CREATE MATERIALIZED VIEW volatile_one AS SELECT clock_timestamp() AS now;
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE VIEW plain_view AS SELECT * FROM bare;
SELECT lo_from_bytea(4711, decode(repeat('0badcafe', 600000), 'hex')), lo_from_bytea(4712, '');
"""


def _server(major: int) -> EmbeddedPostgres:
    if major not in _running:
        _running[major] = postgres_server(PROGRAMS[major]).start()
    return _running[major]


@pytest.fixture(scope="session", autouse=True)
def _stop_servers() -> Iterator[None]:
    yield
    for server in _running.values():
        server.stop()
    _running.clear()


@pytest.fixture(scope="session")
def newest_major() -> int:
    if not PROGRAMS:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
    return max(PROGRAMS)


@pytest.fixture(params=sorted(PROGRAMS) or [None], ids=lambda major: f"pg{major}")
def every_server(request: pytest.FixtureRequest) -> EmbeddedPostgres:
    """Each generation in turn."""
    if request.param is None:
        pytest.skip("no PostgreSQL server here")
    return _server(request.param)


@pytest.fixture(scope="session")
def server(newest_major: int) -> EmbeddedPostgres:
    """One server, of the newest generation."""
    return _server(newest_major)


@pytest.fixture(scope="session")
def server_of() -> Callable[[int], EmbeddedPostgres]:
    """The server of a generation; skips where it cannot be had."""

    def of(major: int) -> EmbeddedPostgres:
        if major not in PROGRAMS:
            pytest.skip(f"no PostgreSQL {major} here")
        return _server(major)

    return of


@pytest.fixture(scope="session")
def generations() -> tuple[int, ...]:
    return tuple(sorted(PROGRAMS))


@pytest.fixture(scope="session")
def new_database() -> Callable[..., str]:
    """Make a database on a server, run some SQL in it, return its URL."""

    def make(server: EmbeddedPostgres, script: str = "") -> str:
        name = f"library_{next(_numbers)}"
        with psycopg.connect(server.address(), autocommit=True) as session:
            # in memory, files are copied in half the time of the default, which writes every page to the log
            how = "STRATEGY file_copy" if session.info.server_version >= 150_000 else ""
            session.execute(f'CREATE DATABASE "{name}" {how}')
        with psycopg.connect(server.address(name), autocommit=True) as session:
            if script:
                session.execute(script)
        return server.address(name)

    return make


@pytest.fixture(scope="session")
def everything() -> str:
    return EVERYTHING


@pytest.fixture
def library(server, new_database, tmp_path):
    """A source whose database was changed after its backup: (source, staged, part, url, name)."""
    url = new_database(server, ITEMS)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    ask(url, "DELETE FROM items WHERE id > 10; INSERT INTO items VALUES (9999, 'later')")
    return source, staged, part, url, url.rpartition("/")[2]
