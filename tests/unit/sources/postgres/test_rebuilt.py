"""What the server computes again (hash partitions, views, statistics) is no damage."""

from __future__ import annotations

import pytest
from postgres_items import ID, ask, back_up, databases, unpack

from scriptorium.operations.database import backup_database, restore_database
from scriptorium.sources.postgres.source import PostgresSource

# A hash of an enum is of its number, which is another one whenever the type is made anew.
SPREAD = """
CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
CREATE TABLE t (m mood, n int) PARTITION BY HASH (m);
CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE t2 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO t SELECT (enum_range(NULL::mood))[1 + g % 8], g FROM generate_series(1, 200) g;
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT 'saved'$$;
"""
STALE = """
CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2);
CREATE MATERIALIZED VIEW first AS SELECT x FROM t;
CREATE VIEW between AS SELECT x FROM first;
CREATE MATERIALIZED VIEW second AS SELECT x + 1 AS y FROM between;
CREATE MATERIALIZED VIEW alone AS SELECT 1 AS one;
INSERT INTO t VALUES (3);
"""
OTHERS = "CREATE TABLE t (x int); CREATE MATERIALIZED VIEW others AS SELECT oid FROM pg_database"
APART = """
CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER gone FOREIGN DATA WRAPPER nothing;
CREATE TABLE t (x int) PARTITION BY LIST (x); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
CREATE FOREIGN TABLE t2 PARTITION OF t FOR VALUES IN (2) SERVER gone; INSERT INTO t VALUES (1);
"""
IN_NO_SCHEMA = """
CREATE TABLE t (x int PRIMARY KEY, p point); INSERT INTO t VALUES (1);
CREATE PUBLICATION p FOR TABLE t; CREATE CAST (point AS text) WITH INOUT; CREATE TYPE r AS RANGE (subtype = float8);
SELECT lo_from_bytea(4711, 'saved');
"""


def load(incoming, staged):
    incoming.prepare()
    unpack(staged, incoming)
    return incoming.load()


def test_rows_that_a_hash_spreads_anew_are_restored_in_place_and_are_undone(server, new_database, tmp_path):
    url = new_database(server, SPREAD)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", in_place=True)
    staged, part = back_up(source, tmp_path / "stage")
    ask(url, "CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT 'later'$$")
    incoming = source.incoming(part, ID)
    load(incoming, staged)
    incoming.switch()
    assert ask(url, "SELECT count(*), sum(n), f() FROM t") == [(200, 20100, "saved")]
    incoming.undo()  # the rows were the same, the function was not
    assert ask(url, "SELECT count(*), sum(n), f() FROM t") == [(200, 20100, "later")]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_view_that_comes_from_a_stale_one_is_not_compared(server, new_database, tmp_path, in_place):
    url = new_database(server, STALE)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", in_place=in_place)
    staged, part = back_up(source, tmp_path / "stage")
    assert set(part.tables) == {"public.t", "public.alone"}
    assert any("public.second" in warning for warning in staged.warnings)
    incoming = source.incoming(part, ID)
    assert load(incoming, staged) == part.tables
    incoming.switch()
    assert ask(url, "SELECT count(*) FROM second") == [(3,)]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_view_that_gives_other_rows_today_is_named_and_no_damage(server, new_database, tmp_path, in_place):
    url = new_database(server, OTHERS)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", in_place=in_place)
    staged, part = back_up(source, tmp_path / "stage")
    assert "public.others" in part.tables
    new_database(server)
    incoming = source.incoming(part, ID)
    load(incoming, staged)
    incoming.switch()
    assert set(incoming.rebuilt_views) == {"public.others"} and not incoming.missing_fingerprints
    assert any("public.others is not compared" in warning for warning in incoming.warnings)


def test_another_server_that_does_not_answer_ends_no_restore(server, new_database, tmp_path):
    url = new_database(server, APART)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    rehearsed = source.rehearsal(part, ID, tmp_path / "scratch")
    assert load(rehearsed, staged) == part.tables
    assert any("statistics" in warning for warning in rehearsed.warnings)
    rehearsed.undo()


def test_subscriptions_are_left_to_the_server_and_named(server, new_database, tmp_path):
    url = new_database(server, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)")
    name = url.rpartition("/")[2]
    ask(url, "CREATE SUBSCRIPTION s CONNECTION 'port=1' PUBLICATION p WITH (connect = false)")
    ask(url, "COMMENT ON SUBSCRIPTION s IS 'from afar'")
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    rehearsed = source.rehearsal(part, ID, tmp_path / "scratch")
    load(rehearsed, staged)
    rehearsed.undo()
    assert databases(server, name) == {name}
    kept = source.model_copy(update={"in_place": True}).incoming(part, "0123456789ac")
    load(kept, staged)
    kept.switch()
    kept.finish()
    assert ask(url, "SELECT subname FROM pg_subscription") == [("s",)]
    incoming = source.model_copy(update={"previous": 0}).incoming(part, ID)
    load(incoming, staged)
    incoming.switch()
    incoming.finish()
    previous = (databases(server, name) - {name}).pop()
    assert any(f"stays active in the previous database {previous}" in warning for warning in incoming.warnings)
    for statement in ("ALTER SUBSCRIPTION s SET (slot_name = NONE)", "DROP SUBSCRIPTION s"):
        ask(server.address(previous), statement)
    assert source.drop_previous(0) == (previous,)


@pytest.mark.parametrize("setting", ["", "default_transaction_read_only = on", "statement_timeout = '1ms'"])
def test_sql_replaces_objects_in_no_schema(server, new_database, tmp_path, setting):
    url = new_database(server, IN_NO_SCHEMA)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    backup_database(source, tmp_path / "one.sql", format="sql")
    ask(url, "DELETE FROM t; SELECT lo_put(4711, 0, 'later'); ALTER PUBLICATION p DROP TABLE t")
    ask(url, "SELECT lo_from_bytea(4712, 'its own')")
    if setting:
        ask(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET {setting}")
    restore_database(source, tmp_path / "one.sql", clean=True)
    ask(server.address(), f"ALTER DATABASE {url.rpartition('/')[2]} RESET ALL")
    assert ask(url, "SELECT x, convert_from(lo_get(4711), 'UTF8'), convert_from(lo_get(4712), 'UTF8') FROM t") == [
        (1, "saved", "its own")
    ]
    assert ask(url, "SELECT tablename FROM pg_publication_tables") == [("t",)]
    assert ask(url, "SELECT obj_description('public'::regnamespace)") == [("standard public schema",)]
