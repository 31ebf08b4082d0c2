"""A restore in one transaction leaves out what does not hold, if the request allows that."""

from __future__ import annotations

import subprocess

import pytest
from postgres_items import ID, ask, back_up, unpack

from scriptorium.errors import RestoreFailed, UnsafeArchive, UsageError
from scriptorium.operations.database import backup_database, restore_database
from scriptorium.sources import RestoreOptions
from scriptorium.sources.postgres import toc
from scriptorium.sources.postgres.source import PostgresSource

# `book` is made before `writer`: a foreign key of the living `book` stands in the way of dropping `writer`.
BROKEN = """
CREATE TABLE writer (id int PRIMARY KEY, name text); INSERT INTO writer VALUES (1, 'a');
CREATE TABLE book (id int PRIMARY KEY, by int CONSTRAINT by_writer REFERENCES writer, also int REFERENCES writer);
COMMENT ON CONSTRAINT by_writer ON book IS 'who wrote it';
CREATE TABLE of_a_page (at date NOT NULL, by int CONSTRAINT parted REFERENCES writer) PARTITION BY RANGE (at);
CREATE TABLE page_2024 PARTITION OF of_a_page FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE FUNCTION key_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE UNIQUE INDEX book_key ON book (public.key_of(id)); COMMENT ON INDEX book_key IS 'unique';
CREATE MATERIALIZED VIEW shares AS SELECT public.key_of(id) AS p FROM book;
INSERT INTO book VALUES (1, 1, 1);
SET session_replication_role = replica; INSERT INTO book VALUES (2, 99, NULL);
INSERT INTO of_a_page VALUES ('2024-05-05', 98); RESET session_replication_role;
"""
LATER = "CREATE OR REPLACE FUNCTION key_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 10 / ($1 - $1)'"
KEYS = "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1"


def dumped(url, server, file, form):
    subprocess.run([server.programs / "pg_dump", f"-F{form}", f"--file={file}", url], check=True)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("form", ["c", "d", "t"])
def test_a_file_is_loaded_without_what_does_not_hold(server, new_database, tmp_path, form, clean):
    url = new_database(server, BROKEN)
    ask(url, LATER)
    dumped(url, server, tmp_path / "it", form)
    to = url if clean else new_database(server)
    source = PostgresSource(database=to, tools=server.programs)
    with pytest.raises(RestoreFailed, match="do not fit") as caught:
        restore_database(source, tmp_path / "it", clean=clean)
    assert "--without-broken-constraints" in caught.value.hint and "nothing was changed" in caught.value.hint
    assert len(ask(to, KEYS)) == (3 if clean else 0)
    ask(url, "UPDATE writer SET name = 'b'")
    warned = "\n".join(restore_database(source, tmp_path / "it", clean=clean, without_broken=True))
    assert ask(to, "SELECT name FROM writer") == [("a",)]
    assert ask(to, "SELECT * FROM book ORDER BY 1") == [(1, 1, 1), (2, 99, None)]
    assert ask(to, "SELECT by FROM of_a_page") == [(98,)]
    assert "by_writer does not hold" in warned and "(by)=(99) is not present" in warned and "made NOT VALID" in warned
    assert "parted does not hold" in warned and "book_key does not hold" in warned and "shares stays empty" in warned
    assert ask(to, KEYS) == [("book_also_fkey", True), ("by_writer", False)]
    assert ask(to, "SELECT relispopulated FROM pg_class WHERE relname = 'shares'") == [(False,)]
    with pytest.raises(Exception, match="by_writer"):
        ask(to, "INSERT INTO book VALUES (3, 77, NULL)")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it"]


def test_sql_runs_unchanged(server, new_database, tmp_path):
    source = PostgresSource(database=new_database(server, BROKEN), tools=server.programs)
    backup_database(source, tmp_path / "a.sql", format="sql")
    with pytest.raises(UsageError, match="SQL") as caught:
        restore_database(source, tmp_path / "a.sql", clean=True, without_broken=True)
    assert "custom format" in caught.value.hint


def test_the_checks_of_a_table_have_another_way(server, new_database, tmp_path):
    url = new_database(
        server,
        "CREATE FUNCTION good(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'; "
        "CREATE TABLE page (n int CHECK (public.good(n))); INSERT INTO page VALUES (1), (99); "
        "CREATE OR REPLACE FUNCTION good(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 50'",
    )
    source = PostgresSource(database=url, tools=server.programs)
    backup_database(source, tmp_path / "it")
    with pytest.raises(RestoreFailed, match="do not fit") as caught:
        restore_database(source, tmp_path / "it", clean=True, without_broken=True)
    assert "catalog adopt" in caught.value.hint and "without --clean" in caught.value.hint
    assert ask(url, "SELECT n FROM page") == [(1,), (99,)]


def test_in_place_and_back_over_rows_that_break_constraints(server, new_database, tmp_path):
    """The living data breaks them too: an undo leaves the same constraints out."""
    url = new_database(server, BROKEN)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", in_place=True)
    staged, part = back_up(source, tmp_path / "stage")
    ask(url, "UPDATE writer SET name = 'b'")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    with pytest.raises(RestoreFailed, match="by_writer"):
        incoming.switch()
    incoming.undo()
    assert ask(url, "SELECT name FROM writer") == [("b",)]
    incoming = source.incoming(part, ID, options=RestoreOptions.chosen({"without_broken_constraints": True}))
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    incoming.switch()
    assert ask(url, "SELECT name FROM writer") == [("a",)]
    assert any("by_writer" in warning and "NOT VALID" in warning for warning in incoming.warnings)
    incoming.undo()
    assert ask(url, "SELECT name FROM writer") == [("b",)]
    assert ask(url, "SELECT count(*) FROM book") == [(2,)]


@pytest.mark.parametrize("form", ["c", "d", "t"])
def test_a_dump_of_a_layout_that_is_not_known_here(server, new_database, tmp_path, monkeypatch, form):
    """A trusted dump is loaded, as far as possible without reading its table of contents."""
    url = new_database(
        server,
        "CREATE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'; "
        "CREATE FUNCTION plain(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN fold($1); END'; "
        "CREATE TABLE item (t text, s text GENERATED ALWAYS AS (plain(t)) STORED); INSERT INTO item (t) VALUES ('A')",
    )
    broken = new_database(server, BROKEN)
    for name, of in (("fine", url), ("broken", broken)):
        dumped(of, server, tmp_path / name, form)
    monkeypatch.setattr(toc, "_KNOWN", range(0))
    ask(url, "DELETE FROM item")
    source = PostgresSource(database=url, tools=server.programs)
    with pytest.raises(UnsafeArchive, match="layout"):
        restore_database(source, tmp_path / "fine", clean=True)
    restore_database(source, tmp_path / "fine", clean=True, trusted=True)
    assert ask(url, "SELECT t, s FROM item") == [("A", "a")]
    other = PostgresSource(database=broken, tools=server.programs)
    with pytest.raises(RestoreFailed, match="do not fit") as caught:
        restore_database(other, tmp_path / "broken", clean=True, trusted=True, without_broken=True)
    assert "catalog adopt" in caught.value.hint
