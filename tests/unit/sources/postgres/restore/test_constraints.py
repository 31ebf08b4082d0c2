"""Errors of pg_restore do not end the restore: names without schema, rows that break a constraint."""

from __future__ import annotations

import pytest
from postgres_items import ID, ask, back_up, databases, schema, unpack

from scriptorium.errors import RestoreFailed
from scriptorium.operations.database import backup_database, restore_database
from scriptorium.sources import RestoreOptions
from scriptorium.sources.postgres.source import PostgresSource

BOOKS = """
CREATE TABLE book (id int PRIMARY KEY, title text); INSERT INTO book VALUES (1, 'Émma'), (2, 'Pnin');
CREATE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
"""
WITHOUT_SCHEMA = {
    "index": "CREATE FUNCTION plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT fold($1)'; "
    "CREATE INDEX book_plain ON book (plain(title)); COMMENT ON INDEX book_plain IS 'x'; "
    "CREATE UNIQUE INDEX own ON book (plain(title)); ALTER TABLE book CLUSTER ON own",
    "generated": "CREATE FUNCTION slug(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS "
    "$$BEGIN RETURN fold(t) || '-x'; END$$; CREATE TABLE item (t text, s text GENERATED ALWAYS AS (slug(t)) STORED); "
    "INSERT INTO item (t) VALUES ('A'); CREATE TABLE more (LIKE item INCLUDING ALL); INSERT INTO more VALUES ('B')",
    "view": "CREATE MATERIALIZED VIEW words AS "
    "SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', title) FROM book'); "
    "CREATE MATERIALIZED VIEW more AS SELECT count(*) AS many FROM words; CREATE INDEX ON words (word)",
    "check": "CREATE TABLE genre (g text PRIMARY KEY); INSERT INTO genre VALUES ('novel'); "
    "CREATE FUNCTION known(text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM genre WHERE g = $1)'; "
    "CREATE TABLE a_item (g text CHECK (known(g))); INSERT INTO a_item VALUES ('novel')",
    "domain": "CREATE FUNCTION good(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS "
    "$$BEGIN RETURN fold($1) <> ''; END$$; CREATE DOMAIN word AS text CHECK (good(VALUE)); "
    "CREATE TABLE page (w word); INSERT INTO page VALUES ('a')",
    "own schema": 'CREATE SCHEMA "My, Schema"; CREATE FUNCTION "My, Schema".tidy(text) RETURNS text '
    "LANGUAGE sql IMMUTABLE AS 'SELECT $1'; CREATE FUNCTION neat(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS "
    '$$BEGIN RETURN tidy($1); END$$; ALTER ROLE postgres SET search_path = "My, Schema", public; '
    'SET search_path = "My, Schema", public; CREATE INDEX ON book (neat(title)); RESET search_path',
}
WITHOUT = RestoreOptions.chosen({"without_broken_constraints": True})
BROKEN = """
CREATE TABLE author (id int PRIMARY KEY, name text); INSERT INTO author VALUES (1, 'a');
CREATE TABLE book (id int PRIMARY KEY, by int CONSTRAINT by_author REFERENCES author, also int REFERENCES author);
COMMENT ON CONSTRAINT by_author ON book IS 'who wrote it';
CREATE FUNCTION good(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE DOMAIN small AS int CONSTRAINT small_good CHECK (public.good(VALUE));
CREATE TABLE page (id int PRIMARY KEY, n small, m int, CONSTRAINT m_good CHECK (public.good(m)));
CREATE FUNCTION key_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE UNIQUE INDEX page_key ON page (public.key_of(id));
INSERT INTO book VALUES (1, 1, 1); INSERT INTO page SELECT g, g, g FROM generate_series(1, 100) g;
SET session_replication_role = replica; INSERT INTO book VALUES (2, 99, NULL); RESET session_replication_role;
"""
LATER = """
CREATE OR REPLACE FUNCTION good(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 50';
CREATE OR REPLACE FUNCTION key_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 7';
"""


def brought(source, staged, part, incoming=None):
    incoming = incoming or source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    tables = incoming.load()
    assert {name: summary for name, summary in tables.items() if name in part.tables} == {
        name: summary for name, summary in part.tables.items() if name not in incoming.missing_fingerprints
    }
    incoming.switch()
    incoming.finish()
    return incoming


@pytest.mark.parametrize("kind", WITHOUT_SCHEMA)
@pytest.mark.parametrize("dump", ["stage", "stream"])
def test_names_without_schema_are_restored(server_of, generations, new_database, tmp_path, kind, dump):
    server = server_of(min(generations))  # from 17 on, indexes and views must name schemas, or their functions do
    url = new_database(server, BOOKS + WITHOUT_SCHEMA[kind])
    try:
        source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", dump=dump, jobs=2)
        staged, part = back_up(source, tmp_path / "stage")
        before = schema(server.programs, url)
        ask(url, "DELETE FROM book")
        assert brought(source, staged, part).warnings == ()
        assert schema(server.programs, url) == before
        assert ask(url, "SELECT count(*) FROM public.book") == [(2,)]
    finally:
        ask(server.address(), "ALTER ROLE postgres RESET search_path")


def test_rows_that_break_constraints_are_refused_by_name_and_are_restored_on_request(server, new_database, tmp_path):
    url = new_database(server, BROKEN)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", jobs=2)
    staged, part = back_up(source, tmp_path / "stage")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    with pytest.raises(RestoreFailed, match="by_author") as caught:
        incoming.load()
    assert "--without-broken-constraints" in caught.value.hint and "99" in caught.value.what
    incoming.undo()
    assert databases(server, url.rpartition("/")[2]) == {url.rpartition("/")[2]}
    rehearsed = source.rehearsal(part, ID, tmp_path / "scratch")
    rehearsed.prepare()
    unpack(staged, rehearsed)
    assert rehearsed.load() == part.tables
    assert any("by_author" in warning for warning in rehearsed.warnings)
    rehearsed.undo()
    name = url.rpartition("/")[2]
    ask(server.address(), f"ALTER DATABASE {name} RENAME TO away_{name}")
    incoming = brought(source, staged, part)  # nothing living is replaced: no word is needed
    assert [warning for warning in incoming.warnings if "by_author" in warning and "NOT VALID" in warning]
    assert ask(url, "SELECT * FROM book ORDER BY 1") == [(1, 1, 1), (2, 99, None)]
    assert ask(url, "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f' ORDER BY 1") == [
        ("book_also_fkey", True),
        ("by_author", False),
    ]


def test_checks_and_unique_indexes_that_no_longer_hold_are_restored_on_request(server, new_database, tmp_path):
    url = new_database(server, BROKEN)
    ask(url, LATER)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", jobs=2)
    staged, part = back_up(source, tmp_path / "stage")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    with pytest.raises(RestoreFailed, match=r"public\.page") as caught:
        incoming.load()
    assert "--without-broken-constraints" in caught.value.hint
    incoming.undo()
    incoming = brought(source, staged, part, source.incoming(part, ID, options=WITHOUT))
    warned = "\n".join(incoming.warnings)
    assert all(name in warned for name in ("m_good", "small_good", "page_key", "by_author"))
    assert ask(url, "SELECT count(*), sum(n), sum(m) FROM page") == [(100, 5050, 5050)]
    assert ask(url, "SELECT conname FROM pg_constraint WHERE NOT convalidated ORDER BY 1") == [
        ("by_author",),
        ("m_good",),
        ("small_good",),
    ]


def test_a_view_that_cannot_be_filled_and_a_generated_column_that_fails(server, new_database, tmp_path):
    url = new_database(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 5); "
        "CREATE FUNCTION per(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; "
        "CREATE TABLE g (n int, p int GENERATED ALWAYS AS (public.per(n)) STORED); INSERT INTO g VALUES (0), (5); "
        "CREATE MATERIALIZED VIEW shares AS SELECT public.per(n) AS p FROM public.t; ",
    )
    ask(url, "CREATE OR REPLACE FUNCTION per(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 10 / $1'")
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    incoming = brought(source, staged, part, source.incoming(part, ID, options=WITHOUT))
    warned = "\n".join(incoming.warnings)
    assert "shares" in warned and "division by zero" in warned and "public.g.p" in warned
    assert ask(url, "SELECT n, p FROM g ORDER BY 1") == [(0, None), (5, None)]


@pytest.mark.parametrize("form", ["custom", "directory"])
def test_names_without_schema_in_one_transaction(server, new_database, tmp_path, form):
    url = new_database(server, BOOKS + WITHOUT_SCHEMA["generated"])
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    backup_database(source, tmp_path / "one", format=form)
    ask(url, "DELETE FROM item")
    restore_database(source, tmp_path / "one", clean=True)
    assert ask(url, "SELECT t, s FROM item") == [("A", "a-x")]
    assert {path.name for path in tmp_path.iterdir()} <= {"one", "staging"}


def test_rows_that_a_hash_puts_elsewhere_are_compared_together(server, new_database, tmp_path):
    url = new_database(
        server,
        "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e'); CREATE TABLE h (k mood, v int) PARTITION BY HASH (k); "
        "CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (modulus 2, remainder 0); "
        "CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (modulus 2, remainder 1)",
    )
    ask(url, "INSERT INTO h SELECT (enum_range(NULL::mood))[g % 5 + 1], g FROM generate_series(1, 100) g")
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    brought(source, *back_up(source, tmp_path / "stage"))
    assert ask(url, "SELECT count(*), sum(v) FROM h") == [(100, 5050)]


ODD = """
CREATE FUNCTION good(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION per(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE ROLE "odd owner"; CREATE SCHEMA "odd schema"; CREATE SCHEMA "a\nb"; CREATE SCHEMA "c.d"; CREATE SCHEMA c;
CREATE TABLE "odd schema"."odd table" (id int CONSTRAINT "odd check" CHECK (public.good(id)));
ALTER TABLE "odd schema"."odd table" OWNER TO "odd owner";
CREATE TABLE "a\nb"."e\nf" (id int CHECK (public.good(id)));
CREATE TABLE "c.d".t (id int CHECK (public.good(id)));
CREATE TABLE c."d.t" (id int CHECK (public.good(id)));
CREATE DOMAIN word AS text NOT NULL;
CREATE TABLE page (id int, w word); INSERT INTO page VALUES (1, 'a');
INSERT INTO page SELECT 2, (SELECT w FROM page WHERE false);
CREATE TABLE made (n int, p int GENERATED ALWAYS AS (public.per(n)) STORED); INSERT INTO made VALUES (0), (5);
CREATE MATERIALIZED VIEW shares AS SELECT public.per(n) AS p FROM made;
CREATE MATERIALIZED VIEW many AS SELECT count(*) AS many FROM shares;
CREATE TABLE author (id int PRIMARY KEY); CREATE TABLE "checksum" (by int CONSTRAINT "disk full" REFERENCES author);
SET session_replication_role = replica; INSERT INTO "checksum" VALUES (7); RESET session_replication_role;
INSERT INTO "odd schema"."odd table" VALUES (1), (99); INSERT INTO "a\nb"."e\nf" VALUES (1), (99);
INSERT INTO "c.d".t VALUES (1), (99); INSERT INTO c."d.t" VALUES (1), (2);
CREATE OR REPLACE FUNCTION good(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 50';
CREATE OR REPLACE FUNCTION per(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 10 / $1';
"""


def test_many_tables_with_odd_names_that_do_not_fit_are_restored_once_each(server, new_database, tmp_path):
    """Of tables that are loaded in several tries, none is loaded twice."""
    url = new_database(server, ODD)
    try:
        source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", jobs=2)
        staged, part = back_up(source, tmp_path / "stage")
        backup_database(source, tmp_path / "one.dump")
        with pytest.raises(RestoreFailed, match="do not fit") as whole:
            restore_database(source, tmp_path / "one.dump", clean=True)
        assert "nothing was changed" in whole.value.hint
        incoming = source.incoming(part, ID)
        incoming.prepare()
        unpack(staged, incoming)
        with pytest.raises(RestoreFailed) as caught:
            incoming.load()
        assert '"odd schema"."odd table"' in caught.value.what and "public.page" in caught.value.what
        incoming.undo()
        incoming = brought(source, staged, part, source.incoming(part, ID, options=WITHOUT))
        warned = "\n".join(incoming.warnings)
        assert all(
            name in warned
            for name in ("odd check", "NOT NULL of domain public.word", "public.made.p", "shares", "disk full")
        )
        assert ask(url, "SELECT count(*), count(w) FROM page") == [(2, 1)]
        assert ask(url, 'SELECT sum(id) FROM "odd schema"."odd table"') == [(100,)]
    finally:
        ask(server.address(), f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
        for (name,) in ask(server.address(), "SELECT datname FROM pg_database WHERE datname LIKE '%before_restore%'"):
            ask(server.address(), f'DROP DATABASE "{name}" WITH (FORCE)')
        ask(server.address(), 'DROP ROLE "odd owner"')
