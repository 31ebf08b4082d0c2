"""Locks of others: nothing waits for them forever, and their holder is reported."""

from __future__ import annotations

import psycopg
import pytest
from postgres_items import ITEMS, ask

from scriptorium.errors import LibraryBusy, SnapshotBusy
from scriptorium.operations import database
from scriptorium.sources.postgres.single_file import FORMATS
from scriptorium.sources.postgres.source import PostgresSource


@pytest.fixture
def locked(server, new_database, tmp_path):
    """A source whose table a session holds (mode -> session), and its dump in each format: (source, hold, dumps)."""
    url = new_database(server, ITEMS)
    source = PostgresSource(database=url, tools=server.programs, lock_timeout=0.7)
    dumps = {format: tmp_path / f"a.{format}" for format in FORMATS}
    for format, file in dumps.items():
        database.backup_database(source, file, format=format)
    with psycopg.connect(url, application_name="the app") as holder:
        yield source, lambda mode: holder.execute(f"LOCK TABLE items IN {mode} MODE"), dumps


def look(source, dumps):
    source.survey(())


def save(source, dumps):
    database.backup_database(source, dumps["custom"])


@pytest.mark.parametrize("work", [look, save], ids=["survey", "one file"])
def test_the_error_of_a_read_names_who_holds_a_table(locked, work):
    source, hold, dumps = locked
    hold("ACCESS EXCLUSIVE")
    with pytest.raises(SnapshotBusy) as caught:
        work(source, dumps)
    assert "the app" in caught.value.hint and "LOCK TABLE" in caught.value.hint


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_over_a_table_in_use_is_refused_with_the_user_and_changes_nothing(locked, format):
    source, hold, dumps = locked
    url = source.database
    ask(url, "DELETE FROM items WHERE id > 10")
    hold("ACCESS SHARE")
    with pytest.raises(LibraryBusy, match=r"0\.7 seconds") as caught:
        database.restore_database(source, dumps[format], clean=True)
    assert "the app" in caught.value.hint and caught.value.exit_code == 4
    assert ask(url, "SELECT count(*) FROM items") == [(10,)]


def test_the_locks_of_a_snapshot_are_those_of_its_tables(server, new_database, tmp_path):
    """A server has few locks for all of its sessions: indexes and sequences that were read do not keep theirs."""
    many = "".join(f"CREATE TABLE t{number} (id serial PRIMARY KEY); " for number in range(50))
    source = PostgresSource(database=new_database(server, many), tools=server.programs)
    with source.stream(tmp_path) as stream, psycopg.connect(server.address()) as session:
        pieces = stream.pieces()
        next(pieces)
        stream._dump._seen.result()
        held = session.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation IS NOT NULL "
            "AND a.datname = %s AND a.application_name ~ 'dump' AND a.application_name !~ 'watch' "
            "AND a.state = 'idle in transaction' AND a.query !~ 'COPY'",
            (source.database.rpartition("/")[2],),
        ).fetchall()
        assert list(pieces) == [] and 50 <= held[0][0] < 70
