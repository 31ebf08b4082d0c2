"""Makes the golden archives of a PostgreSQL library, in both forms: ``python tests/golden/make_postgres.py``, once.

A small Alexandria library whose database holds what a dump may hold, dumped by pg_dump 15 of a server of the same
version; drilled, so that its marks carry a proof. What it wrote is committed and never made again, so this refuses to
touch a folder that is there. The database belongs to a role that may not read passwords: none is in the archive.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from scriptorium.catalog import Catalog
from scriptorium.manifest import VERSION
from scriptorium.model import TableFingerprint
from scriptorium.operations import backup
from scriptorium.operations.drill import drill
from scriptorium.requests import BackupRequest, DrillRequest
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres.embedded import EmbeddedPostgres
from scriptorium.sources.postgres.source import PostgresSource
from scriptorium.stores import LocalStore
from scriptorium.words import Compression

HERE = Path(__file__).parent
SCRATCH = Path("/tmp/scriptorium-golden")  # the archives contain this path
PROGRAMS = Path("/usr/lib/postgresql/15/bin")
FIXED_TIME = datetime(2026, 4, 1, 2, 3, 4, tzinfo=UTC)
LARGEST = 40_000
PIECE = 4 << 10  # bytes of a piece of the streamed dump: several, although it is small
BOOK = b"What a book is: a file that the database names.\n"

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'so-so', 'glad');
CREATE DOMAIN isbn AS text CHECK (length(VALUE) = 13);
CREATE TABLE items (id serial PRIMARY KEY, title text NOT NULL, cover_path text, backdrop_path text);
CREATE TABLE creators (id serial PRIMARY KEY, name text, photo_path text);
CREATE TABLE files (id serial PRIMARY KEY, item_id int REFERENCES items (id), file_path text, size_bytes int,
    checksum_sha256 text);
CREATE TABLE everything (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, i isbn, j jsonb, words text[], grid int[][], raw bytea,
    n numeric, f float8, stamp timestamptz, span int4range, twice int GENERATED ALWAYS AS (length(words[1]) * 2) STORED,
    said text);
CREATE TABLE visits (day date NOT NULL, who text) PARTITION BY RANGE (day);
CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE "Odd ""name"", x" ("Column; 1" int, "é" text);
CREATE SEQUENCE tickets START 5 INCREMENT BY 7;
CREATE INDEX ON everything USING gin (j);
CREATE VIEW glad AS SELECT * FROM everything WHERE m = 'glad';
CREATE MATERIALIZED VIEW moods AS SELECT m, count(*) AS many FROM everything GROUP BY m;
"""
ROWS = """
INSERT INTO items (title) VALUES ('Bücher „quoted“'), ('two'), ('three');
INSERT INTO creators (name) VALUES ('Ada'), (NULL);
INSERT INTO everything (m, i, j, words, grid, raw, n, f, stamp, span, said)
SELECT (ARRAY['sad', 'so-so', 'glad']::mood[])[g % 3 + 1], lpad(g::text, 13, '9'),
    jsonb_build_object('b', g, 'a', NULL, 'é', ARRAY[1, 2]), ARRAY['x', NULL, '', 'a,b"c'], ARRAY[[1, 2], [3, g]],
    decode(md5(g::text), 'hex'), CASE g WHEN 1 THEN 'NaN'::numeric ELSE g + 0.10 END,
    CASE g WHEN 1 THEN float8 '-0' WHEN 2 THEN float8 '-Infinity' ELSE g * float8 '1e-300' END,
    timestamptz '2024-03-31 02:30:00+02' + g * interval '1 hour', int4range(g, g + 5), E'back\\\\slash\\nline\\ttab 漢'
FROM generate_series(1, 40) g;
INSERT INTO visits SELECT date '2025-11-01' + g * 7, 'v' || g FROM generate_series(0, 20) g;
INSERT INTO "Odd ""name"", x" VALUES (1, 'ü'), (1, 'ü'), (2, NULL);
SELECT nextval('tickets'), nextval('tickets');
SELECT lo_from_bytea(4711, decode(repeat('0badcafe', 2000), 'hex')), lo_from_bytea(4712, '');
REFRESH MATERIALIZED VIEW moods;
"""
# Queries of the restored database; each answer is compared with the answer when the archive was made.
QUESTIONS = {
    "arrays": "SELECT id, words::text, grid::text, twice FROM everything ORDER BY id LIMIT 3",
    "bytes": "SELECT encode(raw, 'hex') FROM everything ORDER BY id LIMIT 3",
    "numbers": "SELECT n::text, f::text, span::text FROM everything ORDER BY id LIMIT 3",
    "documents": "SELECT j::text, m::text FROM everything ORDER BY id LIMIT 3",
    "partitions": "SELECT tableoid::regclass::text, count(*)::int FROM visits GROUP BY 1 ORDER BY 1",
    "large objects": "SELECT loid::bigint, sum(length(data))::int, md5(string_agg(data, '' ORDER BY pageno)) "
    "FROM pg_largeobject GROUP BY 1 ORDER BY 1",
    "next ticket": "SELECT nextval('tickets')::int",
    "next item": "INSERT INTO items (title) VALUES ('next') RETURNING id",
    "odd names": 'SELECT "Column; 1", "é" FROM "Odd ""name"", x" ORDER BY 1, 2',
    "moods": "SELECT m::text, many::int FROM moods ORDER BY 1",
    "the view": "SELECT count(*)::int FROM glad",
}


def main() -> None:
    target = HERE / f"version-{VERSION}"
    if (target / "alexandria").exists():
        sys.exit(f"{target}/alexandria is there already, and golden archives are never made again")
    socket.gethostname = lambda: "golden.example"
    pieces = PostgresSource.dump_options.fget
    assert pieces is not None
    PostgresSource.dump_options = property(lambda self: replace(pieces(self), piece=PIECE))  # type: ignore[method-assign]
    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        with EmbeddedPostgres(PROGRAMS) as server:
            make_library(server)
            expected = {
                make_backup(server, target, FIXED_TIME + timedelta(days=place), dump): {"method": dump}
                for place, dump in enumerate(("stage", "stream"))
            }
            recorded = answers(server.address("alexandria"))
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    for name, properties in expected.items():
        properties.update(properties_of(target, name))
    (target / "expected-postgres.json").write_text(
        json.dumps({"answers": recorded, "archives": expected}, indent=1, ensure_ascii=True) + "\n"
    )
    (target / "backup_index.json").unlink(missing_ok=True)
    for file in sorted((target / "alexandria").iterdir()):
        sys.stdout.write(f"{file.stat().st_size:>8}  {file.relative_to(HERE)}\n")
        assert file.stat().st_size < LARGEST, file


def make_library(server: EmbeddedPostgres) -> None:
    """The database, and the one book that it names."""
    import hashlib

    with psycopg.connect(server.address(), autocommit=True) as session:
        session.execute("CREATE ROLE librarian LOGIN CREATEDB PASSWORD 'shelf'")
        session.execute("CREATE DATABASE alexandria OWNER librarian")
    home = SCRATCH / "home"
    (home / "library" / "a").mkdir(parents=True)
    (home / "library" / "a" / "book.txt").write_bytes(BOOK)
    with psycopg.connect(url_of(server), autocommit=True) as session:
        session.execute(SCHEMA)
        session.execute(ROWS)
        session.execute(
            "INSERT INTO files (item_id, file_path, size_bytes, checksum_sha256) VALUES (1, 'a/book.txt', %s, %s)",
            (len(BOOK), hashlib.sha256(BOOK).hexdigest()),
        )


def url_of(server: EmbeddedPostgres) -> str:
    return f"postgresql://librarian:shelf@127.0.0.1:{server.port}/alexandria"


def settings_for(server: EmbeddedPostgres, target: Path, dump: str) -> Settings:
    file = SCRATCH / "scriptorium.toml"
    file.write_text(
        f'workspace = "{SCRATCH}/work"\n[libraries.alexandria]\npreset = "alexandria"\nfiles = "home/library"\n'
        f'database = "postgresql://librarian@127.0.0.1:{server.port}/alexandria"\n'
        f'postgres = {{ password = "shelf", dump = "{dump}", tools = "{server.programs}" }}\n'
        f'[stores.golden]\nkind = "local"\npath = "{target}"\n'
    )
    file.chmod(0o600)
    return load(file, {})


def make_backup(server: EmbeddedPostgres, target: Path, instant: datetime, dump: str) -> str:
    """One backup in the store ``target``, verified and proven; returns its archive's name."""
    settings = settings_for(server, target, dump)
    name = f"golden, PostgreSQL, {dump}"
    request = BackupRequest(name=name, compression=Compression.GZIP)
    taken = backup.backup(settings, request, now=instant).backup
    (copy,) = taken.copies
    proof = drill(settings, DrillRequest(reference=taken.id)).proof
    assert proof.proven, proof.differences
    store = LocalStore(path=target)
    annotations = store.annotations(copy.key)
    assert annotations.verification is not None
    checked = replace(annotations.verification, at=instant, seconds=0.5)
    proven = replace(proof, at=instant + timedelta(hours=1), seconds=1.5, age_seconds=3600.0)
    store.annotate(copy.key, replace(annotations, pinned=True, verification=checked, proof=proven))
    assert Catalog(settings).find(taken.id).status.good
    return copy.key.rpartition("/")[2]


def answers(url: str) -> dict[str, list[list[object]]]:
    """The answers of a database to the queries, in their order: two of them change it."""
    with psycopg.connect(url, autocommit=True) as session:
        return {name: [list(row) for row in session.execute(query).fetchall()] for name, query in QUESTIONS.items()}


def properties_of(target: Path, name: str) -> dict[str, object]:
    """What must be read back from a manifest, as it was read when it was new."""
    from scriptorium.manifest import loads

    manifest = loads((target / "alexandria" / f"{name}.json").read_bytes())
    tables: dict[str, TableFingerprint] = dict(manifest.parts[0].tables or {})
    return {
        "id": manifest.id,
        "name": manifest.name,
        "created_at": manifest.created_at.isoformat(),
        "how": manifest.parts[0].method,
        "tables": {table: [found.rows, found.fingerprint] for table, found in tables.items()},
        "checks": [str(check) for check in manifest.checks],
    }


if __name__ == "__main__":
    main()
