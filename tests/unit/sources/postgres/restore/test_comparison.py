"""The contents of a database, read while it is still being loaded."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import psycopg
import pytest

from scriptorium.errors import ScriptoriumError
from scriptorium.sources.postgres.fingerprint import relations, take_fingerprints
from scriptorium.sources.postgres.restore.comparison import Reading
from scriptorium.sources.postgres.source import PostgresSource

TABLES = "CREATE TABLE early (x int, t text); CREATE TABLE late (y int); CREATE SEQUENCE numbers;"
ROWS = "INSERT INTO early SELECT g, md5(g::text) FROM generate_series(1, 500) g"


@pytest.fixture
def library(server, new_database):
    """An empty database with two tables and a sequence, and the fingerprints of the same one filled."""
    model, new = new_database(server, TABLES), new_database(server, TABLES)
    with psycopg.connect(model, autocommit=True) as session:
        session.execute(ROWS)
        session.execute("INSERT INTO late VALUES (1), (2)")
        session.execute("SELECT nextval('numbers')")
    with PostgresSource(database=model).address().session() as session:
        expected = take_fingerprints(session, relations(session)).tables
    return PostgresSource(database=new).address(), new, expected


def fill(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        for statement in statements:
            session.execute(statement)


def until(what) -> None:
    ends = time.monotonic() + 20
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_table_is_read_as_soon_as_its_rows_are_there(library):
    address, url, expected = library
    with Reading(address, expected) as reading:
        fill(url, ROWS)
        until(lambda: "public.early" in reading._read)
        assert set(reading._read) == {"public.early"}
        fill(url, "INSERT INTO late VALUES (2), (1)", "SELECT nextval('numbers')")
        reading.all_loaded()
        assert reading.fingerprints() == expected


def test_what_was_read_before_all_of_it_was_there_does_not_count(library):
    address, url, expected = library
    with Reading(address, expected) as reading:
        fill(url, "INSERT INTO early SELECT g, md5(g::text) FROM generate_series(1, 200) g")
        time.sleep(0.5)
        assert not reading._read
        fill(url, "INSERT INTO early SELECT g, md5(g::text) FROM generate_series(201, 500) g")
        fill(url, "INSERT INTO late VALUES (1), (2)", "SELECT nextval('numbers')")
        reading.all_loaded()
        assert reading.fingerprints() == expected


def test_what_differs_is_found(library):
    address, url, expected = library
    with Reading(address, expected) as reading:
        fill(url, ROWS, "UPDATE early SET t = 'other' WHERE x = 77", "INSERT INTO late VALUES (1), (2)")
        reading.all_loaded()
        found = reading.fingerprints()
    assert found["public.early"].rows == 500
    assert {name for name in expected if found[name] != expected[name]} == {"public.early", "public.numbers"}


def test_a_table_that_is_being_loaded_is_not_waited_for(library):
    address, url, expected = library
    with psycopg.connect(url) as loading, Reading(address, expected) as reading:
        loading.execute("TRUNCATE early")
        loading.execute(ROWS)
        fill(url, "INSERT INTO late VALUES (1), (2)")
        until(lambda: "public.late" in reading._read)
        loading.commit()
        until(lambda: "public.early" in reading._read)


def test_an_error_is_raised_where_the_fingerprints_are_asked_for(library):
    address, url, expected = library
    with Reading(address, expected) as reading:
        fill(url, "DROP TABLE late")
        reading.all_loaded()
        with pytest.raises(ScriptoriumError, match="late"):
            reading.fingerprints()


def test_a_missing_database_is_reported_at_once(library):
    address, _, expected = library
    with pytest.raises(ScriptoriumError, match="nowhere"), Reading(address.of("nowhere"), expected):
        pass


def test_leaving_early_ends_the_thread_and_its_session(library):
    address, url, expected = library
    fill(url, ROWS)
    with psycopg.connect(url) as holding, pytest.raises(KeyboardInterrupt), Reading(address, expected) as reading:
        holding.execute("LOCK TABLE late")
        reading.all_loaded()
        until(lambda: waiting(url))
        raise KeyboardInterrupt
    assert not any(thread.name.startswith("reading") for thread in threading.enumerate())
    until(lambda: not waiting(url))


def waiting(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as session:
        return session.execute("SELECT pid FROM pg_locks WHERE NOT granted").fetchall()


def test_nothing_expected_means_nothing_early(library):
    address, url, expected = library
    with Reading(address, {}) as reading:
        fill(url, ROWS)
        time.sleep(0.4)
        assert not reading._read
        fill(url, "INSERT INTO late VALUES (1), (2)", "SELECT nextval('numbers')")
        reading.all_loaded()
        assert reading.fingerprints() == expected
    assert replace(expected["public.late"], rows=3) != expected["public.late"]
