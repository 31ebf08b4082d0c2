"""Restores beside the living database: switched in one transaction, undone from any point."""

from __future__ import annotations

import json
import threading
import time

import psycopg
import pytest
from postgres_items import ID, ITEMS, ask, back_up, databases, unpack

from scriptorium.errors import RestoreFailed, ToolFailed
from scriptorium.sources.postgres.databases import named
from scriptorium.sources.postgres.records import Records, begun
from scriptorium.sources.postgres.source import PostgresSource


def test_everything_is_restored_and_the_previous_database_stays(every_server, new_database, everything, tmp_path):
    url = new_database(every_server, everything)
    name = url.rpartition("/")[2]
    ask(url, f"ALTER DATABASE {name} SET work_mem = '9MB'; ALTER DATABASE {name} SET search_path = other, public; "
        f"COMMENT ON DATABASE {name} IS 'the ''library'''; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; "
        f"ALTER DATABASE {name} CONNECTION LIMIT 40; DROP ROLE IF EXISTS keeper")  # fmt: skip
    ask(url, "CREATE ROLE keeper")
    ask(url, f"ALTER DATABASE {name} OWNER TO keeper; GRANT CREATE ON DATABASE {name} TO keeper WITH GRANT OPTION")
    about = (
        "SELECT pg_get_userbyid(datdba), (SELECT array_agg(a ORDER BY a::text) FROM unnest(datacl) a), datconnlimit, "
        "shobj_description(oid, 'pg_database'), datcollate, "
        "encoding, (SELECT array_agg(setconfig) FROM pg_db_role_setting WHERE setdatabase = d.oid) "
        "FROM pg_database d WHERE datname = "
    )
    before = ask(every_server.address(), f"{about} '{name}'")
    source = PostgresSource(database=url, tools=every_server.programs, staging=tmp_path, jobs=2)
    staged, part = back_up(source, tmp_path / "stage")
    ask(url, "TRUNCATE all_types; DROP TABLE cache")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == staged.tables
    assert not list(tmp_path.glob("scriptorium-restore-*/*/**/*")), (
        "the dump takes space as long until the undo is gone"
    )
    incoming.switch()
    incoming.finish()
    assert ask(url, "SELECT count(*) FROM public.all_types") == [(50,)]
    assert ask(every_server.address(), f"{about} '{name}'") == before
    previous = databases(every_server, name) - {name}
    assert [one[:-15] for one in previous] == [f"{name}_before_restore_"]
    assert ask(every_server.address(previous.pop()), "SELECT count(*) FROM public.all_types") == [(0,)]
    again = dict(back_up(source, tmp_path / "again")[1].tables)
    assert again.pop("public.stale").rows == 1 and again == part.tables  # the stale view was made anew
    assert not list(tmp_path.glob("scriptorium-restore-*"))


def test_undo_after_the_switch_puts_the_previous_database_back(library, server):
    source, staged, part, url, name = library
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    incoming.switch()
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)]
    source.incoming(part, ID).undo()
    assert ask(url, "SELECT count(*), max(id) FROM items") == [(11, 9999)]
    assert databases(server, name) == {name}
    source.incoming(part, ID).undo()
    assert databases(server, name) == {name}


def test_an_application_that_never_stops_connecting_is_locked_out_for_a_short_time(library):
    source, staged, part, url, _ = library
    over, answers = threading.Event(), []

    def use() -> None:
        while not over.is_set():
            try:
                with psycopg.connect(url, autocommit=True) as session:
                    while not over.is_set():
                        answers.append((time.monotonic(), session.execute("SELECT count(*) FROM items").fetchone()[0]))
                        time.sleep(0.002)
            except psycopg.Error:
                time.sleep(0.002)

    users = [threading.Thread(target=use) for _ in range(5)]
    for user in users:
        user.start()
    try:
        incoming = source.incoming(part, ID)
        incoming.prepare()
        unpack(staged, incoming)
        incoming.load()
        incoming.switch()
        incoming.finish()
        time.sleep(0.5)
    finally:
        over.set()
        for user in users:
            user.join()
    answers.sort()
    assert {count for _, count in answers} == {11, 2000}
    counts = [count for _, count in answers]
    assert counts == sorted(counts), "the previous database answered after the switch"
    at = counts.index(2000)
    assert answers[at][0] - answers[at - 1][0] < 3.0


def test_previous_databases_are_kept_to_a_number(library, server):
    source, staged, part, _, name = library
    for number, kept in enumerate((1, 2, 2, 0)):
        incoming = source.model_copy(update={"previous": 2 if kept else 0}).incoming(part, f"{number:012x}")
        incoming.prepare()
        unpack(staged, incoming)
        incoming.load()
        incoming.switch()
        incoming.finish()
        assert len(source.previous_databases()) == kept
    assert databases(server, name) == {name}


def _restore(source, staged, part, restore_id=ID):
    incoming = source.incoming(part, restore_id)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    return incoming


def _by_hand(server, name) -> set[str]:
    """Databases that somebody named as we name ours."""
    names = {f"{name}_{end}" for end in ("restore_ba9876543210", "restore_point", "before_restore_20260101_000000")}
    for other in names:
        ask(server.address(), f"CREATE DATABASE {other}")
    return names


def test_what_killed_restores_were_loading_is_dropped_and_nothing_of_anybody_else(library, server):
    source, staged, part, _, name = library
    theirs = _by_hand(server, name)
    _restore(source, staged, part)  # and killed here
    assert source.drop_unfinished() == (f"{name}_restore_{ID}",)
    incoming = _restore(source, staged, part)
    incoming.switch()
    assert source.previous_databases() and source.drop_previous(0) == (), "an undo may need it"
    incoming.finish()
    (kept,) = source.previous_databases()
    assert source.drop_previous(0) == (kept,)
    assert databases(server, name) == {name, *theirs}


def test_cleanup_tidies_up_the_server_and_minds_no_server(library, server):
    source, staged, part, _, name = library
    theirs = _by_hand(server, name)
    for number in (1, 2):
        incoming = _restore(source, staged, part, f"{number:012x}")
        incoming.switch()
        source.model_copy(update={"previous": 2}).incoming(part, f"{number:012x}").finish()
    _restore(source, staged, part)
    newest, older = source.previous_databases()
    assert set(source.tidy()) == {older, f"{name}_restore_{ID}"}
    assert databases(server, name) == {name, newest, *theirs}
    assert source.drop_previous(0) and source.tidy() == ()
    assert PostgresSource(database="host=127.0.0.1 port=1 dbname=x").tidy() == ()


def test_a_comment_of_the_users_stays_and_ours_gets_into_no_backup(library, server):
    source, staged, part, url, name = library
    about = f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{name}'"
    ask(url, f"COMMENT ON DATABASE {name} IS 'the library''s own'")
    incoming = _restore(source, staged, part)
    incoming.switch()
    assert ask(url, about) == [("the library's own",)]
    ask(url, f"COMMENT ON DATABASE {name} IS 'changed meanwhile'")
    incoming.finish()
    assert ask(url, about) == [("changed meanwhile",)]


def test_databases_that_an_earlier_version_marked_are_found_and_put_back(library, server):
    source, _, part, url, name = library
    previous = f"{name}_before_restore_20260101_000000"
    mark = {"scriptorium": {"restore": ID, "former": previous, "comment": "their own"}}
    ask(server.address(), f"ALTER DATABASE {name} RENAME TO {previous}")
    ask(server.address(), f"CREATE DATABASE {name}")
    ask(server.address(), f"COMMENT ON DATABASE {name} IS '{json.dumps(mark)}'")
    source.incoming(part, "ba9876543210").finish()
    source.incoming(part, "ba9876543210").undo()
    assert databases(server, name) == {name, previous}, "the mark is another restore's"
    source.incoming(part, ID).undo()
    assert ask(url, "SELECT count(*), max(id) FROM items") == [(11, 9999)]
    assert databases(server, name) == {name}


@pytest.mark.parametrize("by_hand", ["dropped", "renamed", "replaced", "put back"])
def test_what_was_done_by_hand_is_not_called_back(library, server, by_hand):
    source, staged, part, url, name = library
    _restore(source, staged, part).switch()
    (previous,) = source.previous_databases()
    at = server.address()
    if by_hand == "dropped":
        ask(at, f"DROP DATABASE {previous}")
    elif by_hand == "renamed":
        ask(at, f"ALTER DATABASE {previous} RENAME TO {name}_mine")
    elif by_hand == "replaced":
        ask(at, f"DROP DATABASE {name}")
        ask(at, f"CREATE DATABASE {name}")
    else:
        ask(at, f"DROP DATABASE {name}")
        ask(at, f"ALTER DATABASE {previous} RENAME TO {name}")
    if by_hand in ("dropped", "renamed"):
        with pytest.raises(RestoreFailed, match="no longer there" if by_hand == "dropped" else f"{name}_mine"):
            source.incoming(part, ID).undo()
        assert ask(url, "SELECT count(*) FROM items") == [(2000,)]
        return
    source.incoming(part, ID).undo()
    assert ask(url, "SELECT count(*), max(id) FROM items") == [(11, 9999)]
    asides = databases(server, name) - {name}
    assert [one[:-15] for one in asides] == ([f"{name}_aside_"] if by_hand == "replaced" else [])


def test_another_server_at_the_address_is_left_alone(library, server):
    source, staged, part, url, name = library
    _restore(source, staged, part).switch()
    records = Records(source.staging / "databases")
    (record,) = records
    records.write(record.now(system="1234"))
    with pytest.raises(RestoreFailed, match="another server"):
        source.incoming(part, ID).undo()
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)] and len(databases(server, name)) == 2


def test_a_record_that_others_may_have_written_is_not_believed(library):
    source, staged, part, _, _ = library
    _restore(source, staged, part).switch()
    (source.staging / "databases").chmod(0o777)
    with pytest.raises(RestoreFailed, match="not used"):
        source.incoming(part, ID).undo()
    assert source.previous_databases() == ()


def test_names_that_are_too_long_are_cut_between_letters(server, tmp_path):
    long = "ü" * 31  # 62 bytes, where 63 are allowed
    assert named("ü" * 30 + "é", "_x" * 10) != named("ü" * 30 + "è", "_x" * 10)
    assert max(len(named(letter * 20, "_x" * 10).encode()) for letter in "aü漢😀") <= 63
    ask(server.address(), f'CREATE DATABASE "{long}"')
    url = server.address(long)
    ask(url, ITEMS)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.switch()
    incoming.finish()
    assert len(source.previous_databases()) == 1
    assert len(source.drop_previous(0)) == 1 and source.previous_databases() == ()


def test_to_another_database_that_must_not_be_there(library, server):
    source, staged, part, url, name = library
    aimed = source.model_copy(update={"target": f"{name}_elsewhere"})
    incoming = aimed.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.switch()
    incoming.finish()
    assert ask(server.address(f"{name}_elsewhere"), "SELECT count(*) FROM items") == [(2000,)]
    assert ask(url, "SELECT count(*) FROM items") == [(11,)]
    with pytest.raises(ToolFailed) as caught:
        aimed.incoming(part, ID).prepare()
    assert "already exists" in caught.value.what and "--clean" in caught.value.hint


def test_a_server_that_has_lost_everything_gets_its_database_again(generations, server_of, tmp_path):
    """From the oldest server into the newest, with the encoding that the database had."""
    old, new = server_of(generations[0]), server_of(generations[-1])
    ask(old.address(), "CREATE DATABASE lost ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    ask(old.address("lost"), ITEMS + "INSERT INTO items (title) VALUES ('é'); ALTER DATABASE lost SET work_mem = '7MB'")
    staged, part = back_up(PostgresSource(database=old.address("lost"), tools=old.programs), tmp_path / "stage")
    if old is new:
        ask(old.address(), "DROP DATABASE lost WITH (FORCE)")
    source = PostgresSource(database=new.address("lost"), tools=new.programs, staging=tmp_path / "staging")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.switch()
    incoming.finish()
    assert databases(new, "lost") == {"lost"}
    assert ask(new.address("lost"), "SHOW server_encoding") == [("LATIN1",)]
    assert ask(new.address("lost"), "SHOW work_mem") == [("7MB",)]


def test_a_newer_client_alone_restores_into_an_older_server(generations, server_of, new_database, tmp_path):
    if len(generations) < 2:
        pytest.skip("one generation only")
    old, new = server_of(generations[0]), server_of(generations[-1])
    url = new_database(old, ITEMS)
    source = PostgresSource(database=url, tools=new.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.undo()


def test_into_a_folder_only_files_go(library, tmp_path):
    source, staged, part, _, name = library
    incoming = source.incoming(part, ID, into=tmp_path / "there")
    incoming.prepare()
    (tmp_path / "there" / "postgres").mkdir(parents=True)
    unpack(staged, incoming)
    assert incoming.load() is None
    assert (tmp_path / "there" / "postgres" / name / "toc.dat").exists()
    assert incoming.receive("other/file") is None


def test_the_old_name_of_a_setting_and_of_a_field_of_the_records_are_read(tmp_path):
    assert PostgresSource.model_validate({"former": 3}).previous == 3
    assert PostgresSource.model_validate({"previous": 3}).previous == 3 and PostgresSource().previous == 1
    records = Records(tmp_path / "databases")
    record = begun("0123456789ab", "db", "7", "library", "library_restore_0123456789ab").now(previous="library_before")
    records.write(record)
    (file,) = (tmp_path / "databases").iterdir()
    assert json.loads(file.read_bytes())["former"] == "library_before", "as the first version wrote it"
    assert records.read("0123456789ab", "db") == record
