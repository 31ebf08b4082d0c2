"""Restores by a role that may make no database: in place, in one transaction."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest
from postgres_items import ID, ITEMS, ask, back_up, databases, unpack

from scriptorium.errors import LibraryBusy, NoSpace, RestoreFailed
from scriptorium.fs import free_space
from scriptorium.fs.previous import Whereabouts
from scriptorium.sources.postgres.source import PostgresSource


@pytest.fixture
def poor(server, new_database, tmp_path):
    """The same for a role that owns its database and may make no other."""
    url = new_database(server)
    name = url.rpartition("/")[2]
    if not ask(url, "SELECT 1 FROM pg_roles WHERE rolname = 'poor'"):
        ask(url, "CREATE ROLE poor LOGIN PASSWORD 'p'")
    ask(url, f"ALTER DATABASE {name} OWNER TO poor; ALTER SCHEMA public OWNER TO poor")
    own = url.replace(f"postgres:{server.password}", "poor:p")
    ask(own, ITEMS)
    source = PostgresSource(database=own, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    ask(own, "DELETE FROM items WHERE id > 10; CREATE TABLE extra (x int)")
    return source, staged, part, own, name


def test_a_role_that_may_not_create_databases_is_told_of_clean(poor):
    source, staged, part, *_ = poor
    with pytest.raises(RestoreFailed) as caught:
        source.incoming(part, ID).prepare()
    assert "--clean" in caught.value.hint
    assert staged.warnings == ("globals.sql contains the roles without their passwords",)


def test_in_place_everything_is_replaced_in_one_transaction_and_can_be_undone(poor, server):
    source, staged, part, url, name = poor
    source = source.model_copy(update={"in_place": True})
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    incoming.switch()
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)]
    source.incoming(part, ID).undo()
    assert ask(url, "SELECT count(*) FROM items") == [(10,)]
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    incoming.switch()
    incoming.finish()
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)] and databases(server, name) == {name}
    assert not list(source.staging.iterdir())


def test_in_place_what_is_written_after_it_is_back_stays_where_the_undo_is_killed_and_done_again(poor):
    source, staged, part, url, _ = poor
    source = source.model_copy(update={"in_place": True})
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    incoming.switch()
    kept = incoming.kept()
    assert incoming.previous(kept).where is Whereabouts.ASIDE and not incoming.returned()
    incoming.put_back()
    ask(url, "DELETE FROM items WHERE id = 1")
    again = source.incoming(part, ID)
    assert again.returned() and again.previous(kept).where is Whereabouts.BACK
    again.undo()
    assert ask(url, "SELECT count(*) FROM items") == [(9,)] and not list(source.staging.iterdir())


def test_in_place_a_failure_in_the_middle_changes_nothing(poor):
    source, staged, part, url, _ = poor
    data = max(Path(staged.trees[0].root).glob("*/*.dat"), key=lambda file: file.stat().st_size)
    data.write_bytes(data.read_bytes().replace(b"t1999\n", b"t1999\textra\n"))
    incoming = source.model_copy(update={"in_place": True}).incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    with pytest.raises(RestoreFailed, match="extra data"):
        incoming.switch()
    incoming.undo()
    assert ask(url, "SELECT count(*) FROM items") == [(10,)]


def test_space_for_the_way_back_is_looked_for_before_anything_is_replaced(poor, monkeypatch):
    source, staged, part, url, _ = poor
    source = source.model_copy(update={"in_place": True})
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(free_space.shutil, "disk_usage", lambda path: usage(10**12, 0, 1000))
    with pytest.raises(NoSpace) as caught:
        incoming.load()
    assert "there are 1000 B" in caught.value.what and "staging" in caught.value.hint
    assert caught.value.on.startswith(str(source.staging))
    incoming.undo()
    assert ask(url, "SELECT count(*) FROM items") == [(10,)] and not list(source.staging.iterdir())


def test_a_table_that_somebody_holds_is_not_waited_for_without_end(library):
    source, staged, part, url, _name = library
    source = source.model_copy(update={"in_place": True, "lock_timeout": 0.5})
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    with psycopg.connect(url, application_name="the reader") as holding:
        holding.execute("SELECT count(*) FROM items")
        with pytest.raises(LibraryBusy) as caught:
            incoming.switch()
    assert "the reader" in caught.value.hint
    source.incoming(part, ID).undo()
    assert ask(url, "SELECT count(*), max(id) FROM items") == [(11, 9999)]


def test_what_a_later_table_refers_to_is_said_in_our_words(library):
    source, staged, part, url, _name = library
    ask(url, "CREATE TABLE loans (item int REFERENCES items)")
    incoming = source.model_copy(update={"in_place": True}).incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    with pytest.raises(RestoreFailed, match="not in the backup depends on") as caught:
        incoming.switch()
    assert "beside" in caught.value.hint and "\n" not in caught.value.hint
    source.incoming(part, ID).undo()
    assert ask(url, "SELECT count(*), max(id) FROM items") == [(11, 9999)]
