"""Databases in other encodings than UTF-8 are dumped, compared and restored byte for byte."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from postgres_items import ID, ask, back_up, unpack

from scriptorium.operations.database import backup_database, restore_database
from scriptorium.sources.postgres.source import PostgresSource

ROWS = {
    "SQL_ASCII": "INSERT INTO t SELECT g, E'caf\\xe9 ' || g FROM generate_series(1, 50) g",
    "LATIN1": "INSERT INTO t SELECT g, convert_from('\\x636166e9', 'LATIN1') || g FROM generate_series(1, 50) g",
    # 0x81 and 0x9d have no meaning there, so that UTF-8 has nothing for them
    "WIN1252": "SET client_encoding = 'WIN1252'; INSERT INTO t "
    "SELECT g, E'odd \\x81\\x9d ' || g FROM generate_series(1, 50) g",
    "EUC_JP": "INSERT INTO t SELECT g, convert_from('\\xe697a5e69cac', 'UTF8') || g FROM generate_series(1, 50) g",
}


@pytest.mark.parametrize("encoding", sorted(ROWS))
def test_there_and_back(server, tmp_path, encoding):
    name = f"in_{encoding.lower()}"
    with psycopg.connect(server.address(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = server.address(name)
    ask(url, "CREATE TABLE t (id int PRIMARY KEY, words text); CREATE SEQUENCE numbers")
    ask(url, ROWS[encoding])
    before = ask(url, "SELECT md5(string_agg(words::bytea::text, ',' ORDER BY id)) FROM t")
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    backup_database(source, tmp_path / "one.dump")
    assert not ask(url, "DELETE FROM t")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.switch()
    incoming.finish()
    assert ask(url, f"SELECT count(*), getdatabaseencoding() = '{encoding}' FROM t") == [(50, True)]
    assert ask(url, "SELECT md5(string_agg(words::bytea::text, ',' ORDER BY id)) FROM t") == before
    restore_database(source, tmp_path / "one.dump", clean=True)
    assert ask(url, "SELECT md5(string_agg(words::bytea::text, ',' ORDER BY id)) FROM t") == before


@pytest.mark.parametrize("gone", [False, True])
def test_the_comment_of_a_database_is_kept_in_its_encoding(server, tmp_path, gone):
    """A comment is stored in the encoding of one database, and made in a session of another."""
    name = f"comment_{gone}".lower()
    with psycopg.connect(server.address(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = server.address(name)
    ask(url, f"CREATE TABLE t (id int); COMMENT ON DATABASE {name} IS 'B\u00fccher'")
    question = "SELECT shobj_description(oid, 'pg_database'), current_setting('client_encoding') FROM pg_database"
    before = ask(url, f"{question} WHERE datname = '{name}'")
    assert before[0][0] == "B\u00fccher"
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    if gone:
        ask(server.address(), f"DROP DATABASE {name}")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    incoming.switch()
    incoming.finish()
    assert ask(url, f"{question} WHERE datname = '{name}'") == before


NAMES = {
    "LATIN1": (
        'CREATE SCHEMA "bücher"; CREATE TABLE "bücher"."größe" (id int PRIMARY KEY CHECK (id > 0)); '
        'INSERT INTO "bücher"."größe" VALUES (1); CREATE SEQUENCE "zähler"; CREATE ROLE "für_alle"; '
        'GRANT SELECT ON "bücher"."größe" TO "für_alle"; COMMENT ON SCHEMA "bücher" IS \'schön\''
    ).encode("latin-1"),
    "SQL_ASCII": b'CREATE TABLE "gr\xf6\xdfe" (id int PRIMARY KEY); INSERT INTO "gr\xf6\xdfe" VALUES (1); '
    b'CREATE SEQUENCE "z\xe4hler"; CREATE TABLE "\xc3\xa9" (x text)',
    "EUC_JP": 'CREATE TABLE "本" ("題" text); INSERT INTO "本" VALUES (\'日本\')'.encode("euc_jp"),
}


@pytest.mark.parametrize("encoding", sorted(NAMES))
def test_names_in_another_encoding_are_restored(server, tmp_path, encoding):
    """The name of a role is in a catalog of all databases, with bytes that are valid in one of them only."""
    name, latin = f"names_in_{encoding.lower()}", "names_of_roles"
    with psycopg.connect(server.address(), autocommit=True) as session:
        for one, kind in ((name, encoding), (latin, "LATIN1")):
            session.execute(f"CREATE DATABASE {one} TEMPLATE template0 ENCODING '{kind}' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = server.address(name)
    try:
        ask(server.address(latin), 'CREATE ROLE "süß"')
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(f"SET client_encoding = '{encoding}'")
            session.execute(NAMES[encoding])
        before = dumped(server, url)
        for in_place in (False, True):
            folder = tmp_path / str(in_place)
            folder.mkdir()
            source = PostgresSource(
                database=url, tools=server.programs, staging=folder / "staging", in_place=in_place, previous=0
            )
            staged, part = back_up(source, folder / "stage")
            assert not [warning for warning in staged.warnings if "roles" in warning]
            assert all(table.isprintable() and table.encode() for table in part.tables)  # a manifest can hold them
            incoming = source.incoming(part, ID)
            incoming.prepare()
            unpack(staged, incoming)
            assert incoming.load() == part.tables
            incoming.switch()
            incoming.finish()
            assert dumped(server, url) == before
        backup_database(source, tmp_path / "one.sql", format="sql")
        restore_database(source, tmp_path / "one.sql", clean=True)
        assert dumped(server, url) == before
    finally:
        ask(server.address(), f"DROP DATABASE {name} WITH (FORCE)")
        ask(server.address(latin), 'DROP ROLE "süß"; DROP ROLE IF EXISTS "für_alle"')
        ask(server.address(), f"DROP DATABASE {latin}")


def dumped(server, url):
    lines = subprocess.run([server.programs / "pg_dump", url], capture_output=True, check=True).stdout.splitlines()
    return [line for line in lines if not line.startswith((b"\\restrict", b"\\unrestrict"))]
