"""Restores by a role that may make no database: in place, in one transaction."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import psycopg
import pytest
from postgres_items import ID, ITEMS, ask, back_up, databases, unpack

from scriptorium.errors import LibraryBusy, NoSpace, RestoreFailed
from scriptorium.fs import free_space
from scriptorium.fs.previous import Whereabouts
from scriptorium.sources.postgres.restore import in_place
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


def test_the_error_of_a_role_that_may_not_create_databases_names_clean(poor):
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


def test_the_space_for_an_undo_is_checked_before_anything_is_replaced(poor, monkeypatch):
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


def test_a_later_table_that_refers_to_a_restored_one_is_reported_in_our_words(library):
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


def switched(poor, *, dies: str = ""):
    """A restore in place; ``dies``: the point at which its process is killed. Returns a way to make the part again, as
    the next process does: from the journal, which has no fingerprints."""
    source, staged, part, _, _ = poor
    source = source.model_copy(update={"in_place": True})
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    with pytest.MonkeyPatch.context() as patch:
        if dies:
            patch.setattr(in_place, "reach", dying_at(dies))
            with pytest.raises(Killed):
                incoming.switch()
        else:
            incoming.switch()
    bare = dataclasses.replace(part, tables=None)
    return lambda: source.incoming(bare, ID)


class Killed(BaseException):
    pass


def dying_at(point: str):
    def reach(reached: str) -> None:
        if reached == point:
            raise Killed

    return reach


WRITE = "INSERT INTO items VALUES (9777, 'written since')"
WRITTEN = "SELECT count(*) FROM items WHERE id = 9777"


def test_in_place_a_transaction_that_was_rolled_back_is_not_undone_over_what_was_written_since(poor, caplog):
    url = poor[3]
    again = switched(poor, dies="inplace.before-replacing")
    kept = again().kept()
    ask(url, WRITE)
    assert again().previous(kept).where is Whereabouts.BACK
    again().put_back()
    assert again().previous(kept).where is Whereabouts.BACK
    again().undo()
    assert ask(url, WRITTEN) == [(1,)] and ask(url, "SELECT count(*) FROM items") == [(11,)]
    assert "rolled back; written to since, and left: public.items" in caplog.text


@pytest.mark.parametrize("dies", ["inplace.replaced", ""])
def test_in_place_a_restore_that_was_cut_short_and_written_to_is_not_overwritten(poor, dies):
    url = poor[3]
    again = switched(poor, dies=dies)
    kept = again().kept()
    ask(url, WRITE)
    for _ in range(2):
        with pytest.raises(RestoreFailed, match=r"written.*public\.items") as caught:
            again().put_back()
        assert str(again()._previous) in f"{caught.value.what} {caught.value.hint}"
        assert again().previous(kept).where is Whereabouts.ASIDE
    assert ask(url, WRITTEN) == [(1,)] and (again()._previous / "part").is_dir()


@pytest.mark.parametrize("dies", ["inplace.replaced", ""])
def test_in_place_a_restore_that_was_cut_short_and_not_written_to_is_rolled_back(poor, dies):
    again = switched(poor, dies=dies)
    again().undo()
    assert ask(poor[3], "SELECT count(*) FROM items") == [(10,)]
    assert ask(poor[3], "SELECT count(*) FROM extra") == [(0,)]


def test_in_place_an_undo_gives_up_what_was_written_to_the_restored_data(poor):
    url = poor[3]
    again = switched(poor)
    ask(url, WRITE)
    one = again()
    one.give_up()
    one.undo()
    assert ask(url, "SELECT count(*) FROM items") == [(10,)]


@pytest.mark.parametrize("written", [True, False])
def test_in_place_an_undo_that_was_killed_before_its_transaction_overwrites_nothing_newer(poor, monkeypatch, written):
    url = poor[3]
    again = switched(poor)
    ask(url, "INSERT INTO items VALUES (9778, 'written before the undo'); CREATE TABLE added (x int)")
    one = again()
    one.give_up()
    with monkeypatch.context() as patch:
        patch.setattr(one, "_replace", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            one.put_back()
    if written:
        ask(url, WRITE)
        with pytest.raises(RestoreFailed, match=r"written.*public\.items"):
            again().put_back()
        assert ask(url, WRITTEN) == [(1,)]
    else:
        again().undo()
        assert ask(url, "SELECT count(*) FROM items") == [(10,)]


def test_in_place_an_undo_that_was_killed_after_its_transaction_overwrites_nothing_newer(poor, monkeypatch, caplog):
    url = poor[3]
    again = switched(poor)
    one = again()
    kept = one.kept()
    one.give_up()
    with monkeypatch.context() as patch:
        patch.setattr(in_place, "reach", dying_at("inplace.back"))
        with pytest.raises(Killed):
            one.put_back()
    ask(url, WRITE)
    again().put_back()
    assert again().returned() and again().previous(kept).where is Whereabouts.BACK
    assert ask(url, "SELECT count(*) FROM items") == [(11,)] and ask(url, WRITTEN) == [(1,)]
    assert "public.items" in caplog.text
