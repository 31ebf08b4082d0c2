"""One database to one file and back, in every format; the check of a database."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from scriptorium.catalog.run_progress import running
from scriptorium.demo.alexandria import build_alexandria
from scriptorium.errors import (
    DamageFound,
    NotFound,
    PermanentError,
    ScriptoriumError,
    ToolFailed,
    ToolMissing,
    UsageError,
)
from scriptorium.operations import database
from scriptorium.requests import DatabaseBackupRequest, DatabaseRestoreRequest
from scriptorium.settings import Library, load
from scriptorium.sources import FilesSource
from scriptorium.sources.postgres import progress
from scriptorium.sources.postgres.fingerprint import relations, take_fingerprints
from scriptorium.sources.postgres.source import PostgresSource
from scriptorium.words import Role

ITEMS = (
    "CREATE TABLE items (id serial PRIMARY KEY, title text); CREATE INDEX by_title ON items (title); "
    "INSERT INTO items (title) SELECT 't' || g FROM generate_series(1, 2000) g;"
)


def source_of(url: str, server, **more) -> PostgresSource:
    return PostgresSource(database=url, tools=server.programs, **more)


def fingerprints_of(url: str) -> dict:
    with PostgresSource(database=url).address().session() as session:
        return dict(take_fingerprints(session, relations(session), expected=None).tables)


def ask(url: str, query: str):
    with psycopg.connect(url, autocommit=True) as session:
        cursor = session.execute(query)
        return cursor.fetchall() if cursor.description else None


@pytest.mark.parametrize(
    ("format", "name", "compress"),
    [("custom", "a.dump", 6), ("custom", "wrongly named.sql", 0), ("sql", "a.sql", 6), ("sql", "a.sql.gz", 1),
     ("directory", "folder", 0), ("directory", "folder", 1)],
)  # fmt: skip
def test_there_and_back(server, new_database, everything, tmp_path, format, name, compress):
    there_and_back(server, new_database, everything, tmp_path / name, format, compress)


def test_there_and_back_on_every_generation(every_server, new_database, everything, tmp_path):
    there_and_back(every_server, new_database, everything, tmp_path / "a.dump", "custom", 1)


def there_and_back(every_server, new_database, everything, file, format, compress):
    url, empty = new_database(every_server, everything), new_database(every_server)
    seen: list[int] = []
    for _ in range(2):  # the second one replaces the first
        seen.clear()
        size = database.backup_database(
            source_of(url, every_server), file, format=format, compress=compress, advance=seen.append
        )
    assert sum(seen) == size
    assert size > 1000 and [path.name for path in file.parent.iterdir()] == [file.name]
    assert (file.stat().st_mode & 0o777) == (0o700 if file.is_dir() else 0o600)
    database.restore_database(source_of(empty, every_server), file)
    restored = fingerprints_of(empty)
    assert restored.pop("public.stale").rows == 1  # made anew, and no longer stale
    assert restored == fingerprints_of(url)
    with pytest.raises(ToolFailed) as caught:
        database.restore_database(source_of(empty, every_server), file)
    assert "already" in caught.value.what and "--clean" in caught.value.hint
    assert fingerprints_of(empty) == restored | {"public.stale": fingerprints_of(empty)["public.stale"]}
    ask(empty, "TRUNCATE public.all_types; DROP TABLE public.cache; SELECT lo_unlink(4711)")
    if format == "sql":
        ask(empty, "SELECT lo_unlink(4712)")  # SQL cannot replace large objects, only make them
    database.restore_database(source_of(empty, every_server), file, clean=True)
    assert fingerprints_of(empty) == restored | {"public.stale": fingerprints_of(empty)["public.stale"]}


def test_sql_over_what_is_there_leaves_public_as_it_was_and_minds_no_schema(every_server, new_database, tmp_path):
    url = new_database(every_server, ITEMS + "CREATE SCHEMA only_words; CREATE TYPE only_words.mood AS ENUM ('ok')")
    public = "SELECT nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname = 'public'"
    source, before = source_of(url, every_server), ask(url, public)
    database.backup_database(source, tmp_path / "a.sql", format="sql")
    database.restore_database(source, tmp_path / "a.sql", clean=True)
    assert ask(url, public) == before
    assert ask(url, "SELECT 'ok'::only_words.mood, count(*) FROM items") == [("ok", 2000)]


def test_sql_of_a_newer_pg_dump_is_restored_on_an_older_server(generations, server_of, new_database, tmp_path):
    older, newer = server_of(generations[0]), server_of(generations[-1])
    if not generations[0] < 17 <= generations[-1]:
        pytest.skip("a server before 17 and a client from 17 on are needed")
    url, empty = new_database(older, ITEMS), new_database(older)
    database.backup_database(source_of(url, newer), tmp_path / "a.sql", format="sql")
    assert "transaction_timeout" in (tmp_path / "a.sql").read_text()
    database.restore_database(source_of(empty, older), tmp_path / "a.sql")
    assert fingerprints_of(empty) == fingerprints_of(url)
    database.backup_database(source_of(url, older), tmp_path / "a.dump", format="custom")
    with pytest.raises(ToolMissing, match=f"{generations[0]} to 16") as error:
        database.restore_database(source_of(empty, newer), tmp_path / "a.dump", clean=True)
    assert "postgresql-client" in error.value.hint
    assert fingerprints_of(empty) == fingerprints_of(url)


@pytest.mark.parametrize("format", ["custom", "directory", "sql"])
def test_a_restore_reports_its_progress(server, new_database, tmp_path, monkeypatch, format):
    monkeypatch.setattr(progress, "_LOOK_SECONDS", 0.01)
    url, empty = new_database(server, ITEMS.replace("2000", "60000")), new_database(server)
    size = database.backup_database(source_of(url, server), tmp_path / "it", format=format, compress=0)
    read: list[int] = []
    database.restore_database(source_of(empty, server), tmp_path / "it", advance=read.append)
    assert min(read) > 0 and size / 2 < sum(read) < size * 3


def test_what_cannot_be_restored_is_refused_before_anything_is_touched(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    source = source_of(url, server)
    whole = tmp_path / "whole.sql"
    database.backup_database(source, whole, format="sql")
    half = tmp_path / "half.sql"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    squeezed = tmp_path / "half.gz"
    squeezed.write_bytes(gzip.compress(whole.read_bytes())[:-2000])
    dump = tmp_path / "a.dump"
    database.backup_database(source, dump)
    (tmp_path / "twice.gz").write_bytes(gzip.compress(dump.read_bytes()))
    (tmp_path / "short.dump").write_bytes(dump.read_bytes()[:300])
    (tmp_path / "noise").write_bytes(b"\0\1\2" * 1000)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    expected = {"half.sql": DamageFound, "half.gz": DamageFound, "twice.gz": UsageError, "short.dump": DamageFound,
                "noise": DamageFound, "empty": DamageFound, "folder": UsageError, "absent": NotFound}  # fmt: skip
    for name, kind in expected.items():
        with pytest.raises(kind):
            database.restore_database(source, tmp_path / name, clean=True)
    cut = tmp_path / "cut.dump"
    cut.write_bytes(dump.read_bytes()[:-3000])
    with pytest.raises(ScriptoriumError):
        database.restore_database(source, cut, clean=True)
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)]


def test_an_error_in_the_middle_of_sql_changes_nothing(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    file = tmp_path / "a.sql"
    database.backup_database(source_of(url, server), file, format="sql")
    file.write_text(
        file.read_text().replace("\t1999\n", "\t1999\textra\n").replace("1999\tt1999", "1999\tt1999\textra")
    )
    with pytest.raises(ToolFailed, match="extra data"):
        database.restore_database(source_of(url, server), file, clean=True)
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)]


def test_wrong_orders_are_refused(server, new_database, tmp_path):
    source = source_of(new_database(server, ITEMS), server)
    for wrong in ({"format": "zip"}, {"compress": 10}):
        with pytest.raises(UsageError):
            database.backup_database(source, tmp_path / "x", **wrong)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    with pytest.raises(UsageError):
        database.backup_database(source, tmp_path / "mine", format="directory")
    with pytest.raises(UsageError, match="not a file"):
        database.backup_database(source, tmp_path / "mine")
    with pytest.raises(UsageError, match="not a folder"):
        database.backup_database(source, tmp_path / "mine" / "precious", format="directory")
    with pytest.raises(UsageError, match="folder cannot be made"):
        database.backup_database(source, tmp_path / "mine" / "precious" / "a")
    os.mkfifo(tmp_path / "mine" / "pipe")
    with pytest.raises(UsageError, match="not a file"):
        database.backup_database(source, tmp_path / "mine" / "pipe")
    (tmp_path / "mine" / "pipe").unlink()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "precious"]
    with pytest.raises(UsageError, match="no PostgreSQL database"):
        database.database_of(Library(name="x", sources=(FilesSource(path=tmp_path),)))
    assert database.database_of(Library(name="x", sources=(source,))) is source


def test_missing_roles_of_policies_are_reported(server, new_database, tmp_path):
    policies = (
        'CREATE ROLE "A, B"; CREATE ROLE gone_too; CREATE POLICY "x TO y" ON items FOR SELECT '
        "TO \"A, B\", gone_too USING (id < 5); CREATE POLICY everybody ON items USING (title = ' TO nobody ')"
    )
    url = new_database(server, ITEMS + policies)
    database.backup_database(source_of(url, server), tmp_path / "a")
    for statement in ('DROP POLICY "x TO y" ON items', 'DROP ROLE "A, B"', "DROP ROLE gone_too"):
        ask(url, statement)
    with pytest.raises(PermanentError, match="role A, B, gone_too:"):
        database.restore_database(source_of(new_database(server), server), tmp_path / "a")


def test_a_file_that_lacks_roles_is_reported(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    for statement in ("CREATE ROLE passing", "ALTER TABLE items OWNER TO passing"):
        ask(url, statement)
    database.backup_database(source_of(url, server), tmp_path / "a")
    ask(url, "ALTER TABLE items OWNER TO postgres")
    ask(url, "DROP ROLE passing")
    empty = new_database(server)
    with pytest.raises(PermanentError, match="role passing"):
        database.restore_database(source_of(empty, server), tmp_path / "a")
    database.restore_database(source_of(empty, server, without_roles=True), tmp_path / "a")
    assert ask(empty, "SELECT count(*) FROM items") == [(2000,)]


def test_the_check_finds_what_is_wrong(server, new_database, tmp_path):
    url = new_database(server)
    home = tmp_path / "home"
    build_alexandria(url, home, items=30, files=30)
    source = source_of(url, server)
    library = Library(name="a", sources=(source, FilesSource(path=home / "library", role=Role.FILES)))
    health = database.check_database(source, library)
    assert health.sound, health.findings
    assert health.properties["checksums"] in ("on", "off") and "not checked" in health.properties["structure"]
    (path,) = ask(url, "SELECT file_path FROM files WHERE id = 1")[0]
    (home / "library" / path).unlink()
    (other,) = ask(url, "SELECT file_path FROM files WHERE id = 2")[0]
    (home / "library" / other).write_bytes(b"short")
    (home / "library" / "stray.epub").write_bytes(b"x")
    ask(url, "DELETE FROM files WHERE id = 3")
    ask(url, "ALTER TABLE item_creators DROP CONSTRAINT item_creators_creator_id_fkey")
    ask(url, "DELETE FROM creators WHERE id = 4")
    ask(url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_items_title'::regclass")
    health = database.check_database(source, library)
    found = {(one.verdict, one.subject) for one in health.findings}
    assert found == {
        ("invalid index", "public.ix_items_title"),
        ("item without files", "1 in items"),
        ("orphan", f"{len(ask(url, 'SELECT 1 FROM item_creators WHERE creator_id = 4'))} in item_creators"),
        ("missing file", "1 in files"),
        ("different size", "1 in files"),
        ("file without row", "2 in library"),
    }


def test_pg_amcheck_finds_a_damaged_table(generations, server_of, new_database):
    """Where the server has the extension: a page of a table is overwritten on disk."""
    for major in generations:
        server = server_of(major)
        if ask(server.address(), "SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'") and major >= 14:
            break
    else:
        pytest.skip("no server here has amcheck")
    url = new_database(server, ITEMS + "CREATE EXTENSION amcheck; CHECKPOINT")
    assert database.check_database(source_of(url, server)).sound
    (place,) = ask(url, "SELECT pg_relation_filepath('by_title')")[0]
    file = server.folder / "data" / place
    data = bytearray(file.read_bytes())
    data[8192 + 5000 : 8192 + 6500] = bytes(reversed(data[8192 + 5000 : 8192 + 6500]))
    file.write_bytes(data)
    # The server has the good page in memory; a copy of the files it has not.
    copied = " STRATEGY file_copy" if major >= 15 else ""
    ask(server.address(), f"CREATE DATABASE damaged TEMPLATE {url.rpartition('/')[2]}{copied}")
    health = database.check_database(source_of(server.address("damaged"), server))
    assert any(one.verdict == "damaged structure" for one in health.findings), health


def test_sql_with_large_objects_is_one_transaction(server, new_database: Callable[..., str], tmp_path: Path) -> None:
    """pg_dump writes BEGIN and COMMIT around them: a later failure must not leave a part of the restore."""
    url = new_database(server, "CREATE TABLE items (id int); INSERT INTO items VALUES (1), (2)")
    ask(url, "SELECT lo_from_bytea(77, 'hello')")
    source = PostgresSource(database=url, tools=server.programs)
    file = tmp_path / "library.sql"
    database.backup_database(source, file, format="sql")
    ask(url, "SELECT lo_unlink(77)")
    whole = file.read_text()
    assert "\nCOMMIT;\n" in whole
    mark = "\nCOMMIT;\n"
    file.write_text(whole.replace(mark, f"{mark}ALTER TABLE public.items ADD CHECK (id > 1);\n"))
    ask(url, "UPDATE items SET id = 9")
    with pytest.raises(ScriptoriumError, match="violated"):
        database.restore_database(source, file, clean=True)
    assert ask(url, "SELECT id FROM items") == [(9,), (9,)]
    assert ask(url, "SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]
    file.write_text(whole)
    database.restore_database(source, file, clean=True)
    assert ask(url, "SELECT convert_from(lo_get(77), 'UTF8')") == [("hello",)]


def test_other_processes_can_read_how_far_it_is(server, new_database, tmp_path, monkeypatch):
    config = tmp_path / "scriptorium.toml"
    monkeypatch.setattr(progress, "_LOOK_SECONDS", 0.01)
    full, empty = new_database(server, ITEMS.replace("2000", "60000")), new_database(server)
    config.write_text(
        f"workspace = '{tmp_path / 'work'}'\n[stores.s]\nkind = 'local'\npath = '{tmp_path / 'backups'}'\n"
        + "".join(
            f"[libraries.{name}]\nsources = [{{ name = 'db', kind = 'postgres', database = '{url}', "
            f"tools = '{server.programs}' }}]\n"
            for name, url in (("full", full), ("empty", empty))
        )
    )
    settings, file, seen = load(config, {}), str(tmp_path / "a.dump"), []

    def look(_: int) -> None:
        seen.extend((one.operation, one.library, one.step.name) for one in running(settings))

    database.database_backup(settings, DatabaseBackupRequest(file=file, library="full"), advance=look)
    assert set(seen) == {("database backup", "full", "dumping to")}
    seen.clear()
    database.database_restore(settings, DatabaseRestoreRequest(file=file, library="empty"), advance=look)
    assert set(seen) == {("database restore", "empty", "loading")} and running(settings) == []
