"""Restores: beside the living database, switched without a gap, undone from any point."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psycopg
import pytest

from scriptorium.errors import DamageFound, PermanentError, RestoreFailed, ScriptoriumError, ToolFailed
from scriptorium.model import Part, Staged
from scriptorium.sources.postgres import PostgresSource

ITEMS = (
    "CREATE TABLE items (id serial PRIMARY KEY, title text); CREATE INDEX ON items (title); "
    "INSERT INTO items (title) SELECT 't' || g FROM generate_series(1, 2000) g;"
)
ID = "0123456789ab"


def back_up(source: PostgresSource, folder: Path) -> tuple[Staged, Part]:
    folder.mkdir()
    source.capture(folder)
    staged = source.examine(folder, ())
    part = Part(
        source=staged.source, kind=staged.kind, path=staged.path, bytes=0, files=0, started_at=staged.started_at,
        finished_at=staged.finished_at, method=staged.method, tables=staged.tables,
    )  # fmt: skip
    return staged, part


def unpack(staged: Staged, incoming) -> None:
    """What reading an archive does with the members of a part."""
    assert incoming.receive(staged.path).is_dir()
    for tree in staged.trees:
        root = Path(tree.root)
        for file in [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]:
            inside = file.relative_to(root).as_posix()
            place = incoming.receive(tree.at if inside == "." else f"{tree.at}/{inside}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)


def ask(url: str, query: str):
    with psycopg.connect(url, autocommit=True) as session:
        cursor = session.execute(query)
        return cursor.fetchall() if cursor.description else None


def databases(server, base: str) -> set[str]:
    found = ask(server.address(), f"SELECT datname FROM pg_database WHERE starts_with(datname, '{base}')")
    return {name for (name,) in found}


@pytest.fixture
def library(server, new_database, tmp_path):
    """A source whose database was changed after its backup: (source, staged, part, url, name)."""
    url = new_database(server, ITEMS)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    ask(url, "DELETE FROM items WHERE id > 10; INSERT INTO items VALUES (9999, 'later')")
    return source, staged, part, url, url.rpartition("/")[2]


def test_everything_comes_back_and_the_former_database_stays(every_server, new_database, everything, tmp_path):
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
    incoming.switch()
    incoming.finish()
    assert ask(url, "SELECT count(*) FROM public.all_types") == [(50,)]
    assert ask(every_server.address(), f"{about} '{name}'") == before
    former = databases(every_server, name) - {name}
    assert [one[:-15] for one in former] == [f"{name}_before_restore_"]
    assert ask(every_server.address(former.pop()), "SELECT count(*) FROM public.all_types") == [(0,)]
    again = dict(back_up(source, tmp_path / "again")[1].tables)
    assert again.pop("public.stale").rows == 1 and again == part.tables  # the stale view was made anew
    assert not list(tmp_path.glob("scriptorium-restore-*"))


def test_undo_after_the_switch_puts_the_former_database_back(library, server):
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


def test_an_application_that_never_stops_connecting_is_sent_away_for_a_moment(library):
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
    assert counts == sorted(counts), "the former database answered after the switch"
    at = counts.index(2000)
    assert answers[at][0] - answers[at - 1][0] < 3.0


def test_former_databases_are_kept_to_a_number(library, server):
    source, staged, part, _, name = library
    for kept in (1, 2, 2, 0):
        incoming = source.model_copy(update={"former": 2 if kept else 0}).incoming(part, ID)
        incoming.prepare()
        unpack(staged, incoming)
        incoming.load()
        incoming.switch()
        incoming.finish()
        assert len(source.former_databases()) == kept
    assert databases(server, name) == {name}


def test_what_killed_restores_were_loading_can_be_dropped(library, server):
    source, _, _, _, name = library
    for other in (f"{name}_restore_0123456789ab", f"{name}_restore_point", f"{name}_before_restore_20260101_000000"):
        ask(server.address(), f"CREATE DATABASE {other}")
    assert source.drop_unfinished() == (f"{name}_restore_0123456789ab",)
    assert databases(server, name) == {name, f"{name}_restore_point", f"{name}_before_restore_20260101_000000"}
    assert source.drop_former(0) == (f"{name}_before_restore_20260101_000000",)
    assert databases(server, name) == {name, f"{name}_restore_point"}


def test_names_that_are_too_long_are_cut_between_letters(server, tmp_path):
    long = "ü" * 31  # 62 bytes, where 63 are allowed
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
    assert len(source.former_databases()) == 1
    assert len(source.drop_former(0)) == 1 and source.former_databases() == ()


def test_a_pg_restore_that_is_killed_leaves_the_living_database(library, server, tmp_path):
    source, staged, part, url, name = library
    tools = tmp_path / "tools"
    tools.mkdir()
    script = (
        f"#!/bin/sh\nreal={server.programs}/pg_restore\n"
        'case "$*" in *--dbname*) $real "$@" & sleep 0.05; kill -KILL $!; wait $!; kill -KILL $$;; esac\n'
        'exec $real "$@"\n'
    )
    (tools / "pg_restore").write_text(script)
    (tools / "pg_restore").chmod(0o755)
    incoming = source.model_copy(update={"tools": tools}).incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    with pytest.raises(ToolFailed, match="SIGKILL"):
        incoming.load()
    assert ask(url, "SELECT count(*), max(id) FROM items") == [(11, 9999)]
    incoming.undo()
    assert databases(server, name) == {name} and not list(source.staging.iterdir())


POINTS = ("prepared", "creating", "restoring", "loaded", "renaming", "renamed", "switched", "finishing")


@pytest.mark.parametrize("point", POINTS)
def test_being_killed_at_any_step_leaves_the_former_or_the_restored_database_whole(library, server, tmp_path, point):
    """A process is killed at each step; another one then undoes what it left (or, once finished, leaves it)."""
    source, staged, part, url, name = library
    script = textwrap.dedent(f"""
        import os, pickle, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_postgres_restore as t
        from scriptorium.sources import postgres_databases as databases, postgres_load, postgres_restore
        source, staged, part = pickle.loads(Path({str(tmp_path / "order")!r}).read_bytes())
        point = {point!r}
        def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
        def then_die(real): return lambda *a, **k: (real(*a, **k), die())
        if point == "creating": databases.dress_like = die
        if point == "restoring": postgres_restore.read_facts = die
        if point == "renaming": databases.set_comment = (lambda real: lambda s, n, c: die() if c and "scriptorium" in c
                                                         else real(s, n, c))(databases.set_comment)
        if point == "renamed": databases.switch = then_die(databases.switch)
        if point == "finishing": databases.former_databases = die
        incoming = source.incoming(part, t.ID)
        incoming.prepare()
        if point == "prepared": die()
        t.unpack(staged, incoming)
        incoming.load()
        if point == "loaded": die()
        incoming.switch()
        if point == "switched": die()
        incoming.finish()
    """)
    import pickle

    (tmp_path / "order").write_bytes(pickle.dumps((source, staged, part)))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.returncode == -signal.SIGKILL, run.stderr
    late = point in ("renamed", "switched", "finishing")
    assert ask(url, "SELECT count(*) FROM items") == [(2000 if late else 11,)]
    if point == "finishing":
        source.incoming(part, ID).finish()
        assert len(databases(server, name)) == 2 and ask(url, "SELECT count(*) FROM items") == [(2000,)]
    else:
        source.incoming(part, ID).undo()
        assert ask(url, "SELECT count(*), max(id) FROM items") == [(11, 9999)]
        assert databases(server, name) == {name}
    assert not list(source.staging.iterdir())


def test_a_damaged_dump_is_refused_and_the_living_database_stays(library, server):
    source, staged, part, url, name = library
    data = max(Path(staged.trees[0].root).glob("*/*.dat"), key=lambda file: file.stat().st_size)
    text = data.read_bytes()
    incoming = source.incoming(part, ID)
    for broken, words in ((text.replace(b"t100\n", b"t100\textra\n"), "extra data"), (b"", "")):
        data.write_bytes(broken)
        incoming.prepare()
        unpack(staged, incoming)
        try:
            assert incoming.load() != part.tables
            assert not words
        except ScriptoriumError as error:
            assert words in str(error)
        incoming.undo()
    data.with_name("toc.dat").write_bytes(b"PGDMP rubbish")
    incoming.prepare()
    unpack(staged, incoming)
    with pytest.raises(DamageFound):
        incoming.load()
    incoming.undo()
    assert ask(url, "SELECT count(*) FROM items") == [(11,)] and databases(server, name) == {name}


def test_missing_roles_tablespaces_and_extensions_are_named_before_anything_happens(server, new_database, tmp_path):
    place = server.folder / "fast_disk"
    place.mkdir(exist_ok=True)
    shutil.chown(place, (server.folder / "data").owner())
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    for statement in (
        "CREATE ROLE librarian",
        'CREATE ROLE "The ""Reader"""',
        f"CREATE TABLESPACE fast LOCATION '{place}'",
        "ALTER TABLE items OWNER TO librarian",
        'GRANT SELECT ON items TO "The ""Reader"""',
        "CREATE TABLE quick (id int) TABLESPACE fast",
    ):
        ask(url, statement)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    assert "librarian" in (tmp_path / "stage" / "part" / "globals.sql").read_text()
    for statement in (
        "DROP TABLE quick, items",
        "DROP TABLESPACE fast",
        "DROP ROLE librarian",
        'DROP ROLE "The ""Reader"""',
    ):
        ask(url, statement)
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    with pytest.raises(PermanentError) as caught:
        incoming.load()
    assert 'role The "Reader", librarian; tablespace fast' in caught.value.what
    assert databases(server, name) == {name}
    incoming = source.model_copy(update={"without_roles": True}).incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    incoming.switch()
    incoming.finish()
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)]


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
    assert staged.warnings == ("globals.sql holds the roles without their passwords",)


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


def test_in_place_a_failure_in_the_middle_changes_nothing(poor):
    source, staged, part, url, _ = poor
    data = max(Path(staged.trees[0].root).glob("*/*.dat"), key=lambda file: file.stat().st_size)
    data.write_bytes(data.read_bytes().replace(b"t1999\n", b"t1999\textra\n"))
    incoming = source.model_copy(update={"in_place": True}).incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    with pytest.raises(ToolFailed, match="extra data"):
        incoming.switch()
    incoming.undo()
    assert ask(url, "SELECT count(*) FROM items") == [(10,)]


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
