"""Restores that are killed, that read damage or lack something: the living database is not changed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import postgres_items
import pytest
from postgres_items import ID, ITEMS, ask, back_up, databases, unpack

from scriptorium.errors import DamageFound, PermanentError, ScriptoriumError, ToolFailed
from scriptorium.sources.postgres.source import PostgresSource


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
    assert databases(server, name) == {name} and leftovers(source) == []


POINTS = ("prepared", "creating", "restoring", "loaded", "renaming", "renamed", "switched", "finishing")


@pytest.mark.parametrize("point", POINTS)
def test_being_killed_at_any_step_leaves_the_previous_or_the_restored_database_whole(library, server, tmp_path, point):
    """A process is killed at each step; another one then undoes the rest (or keeps a finished restore)."""
    source, staged, part, url, name = library
    script = textwrap.dedent(f"""
        import os, pickle, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(postgres_items.__file__).parent)!r})
        import postgres_items as t
        from scriptorium.sources.postgres import databases
        from scriptorium.sources.postgres.restore import beside, comparison
        source, staged, part = pickle.loads(Path({str(tmp_path / "order")!r}).read_bytes())
        point = {point!r}
        def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
        def then_die(real): return lambda *a, **k: (real(*a, **k), die())
        if point == "creating": beside.DatabaseProperties.before_data = die
        if point == "restoring": comparison.table_fingerprint = die
        if point == "renaming": databases.reach = lambda at: die() if at == "database.renaming" else None
        if point == "renamed": databases.switch = then_die(databases.switch)
        if point == "finishing": beside.drop_surplus = die
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
    assert leftovers(source) == (["0123456789ab-postgres.json"] if point == "finishing" else [])


def leftovers(source):
    """What is left below the source's folder: the record of a previous database, if one is kept."""
    return [path.name for path in source.staging.rglob("*") if path.name != "databases"]


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


def test_a_policy_for_a_missing_role_is_left_out_and_rows_stay_hidden(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    name = url.rpartition("/")[2]
    for statement in (
        f"CREATE ROLE {name}_reader",
        f"CREATE POLICY only_some ON items TO {name}_reader USING (id < 5)",
        "CREATE POLICY everyone ON items USING (id < 9)",
        "COMMENT ON POLICY only_some ON items IS 'what this role may see'",
        "COMMENT ON POLICY everyone ON items IS 'what all may see'",
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
        "CREATE FUNCTION grants() RETURNS text LANGUAGE sql AS "
        "$$ SELECT '\nGRANT SELECT ON items TO nobody_at_all;\n' $$",
    ):
        ask(url, statement)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging")
    staged, part = back_up(source, tmp_path / "stage")
    ask(url, "DROP POLICY only_some ON items")
    ask(url, f"DROP ROLE {name}_reader")
    with pytest.raises(PermanentError, match=f"role {name}_reader: ") as caught:
        bring(source, staged, part)
    assert "nobody_at_all" not in str(caught.value)
    for how in ({"without_roles": True}, {"without_roles": True, "in_place": True}):
        incoming = bring(source.model_copy(update=how), staged, part)
        incoming.switch()
        incoming.finish()
        comment = ask(url, "SELECT polname::text, obj_description(oid, 'pg_policy') FROM pg_policy")
        assert comment == [("everyone", "what all may see")]
        assert ask(url, "SELECT count(*) FROM items") == [(2000,)]


def bring(source, staged, part):
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    assert incoming.load() == part.tables
    return incoming


def test_a_database_that_was_made_read_only_can_be_restored(library):
    source, staged, part, url, name = library
    ask(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    incoming = bring(source, staged, part)
    incoming.switch()
    incoming.finish()
    assert ask(url, "SELECT count(*) FROM items") == [(2000,)]
    assert ask(url, "SHOW default_transaction_read_only") == [("on",)]
