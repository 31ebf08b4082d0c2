"""Dumps: one snapshot, complete, and every trouble reported clearly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest

from scriptorium.errors import (
    NoSpace,
    NotFound,
    PermanentError,
    SettingsError,
    SnapshotBusy,
    SourceUnavailable,
    ToolFailed,
    ToolMissing,
    TransientError,
)
from scriptorium.sources.postgres import programs
from scriptorium.sources.postgres.dump import snapshot
from scriptorium.sources.postgres.embedded import EmbeddedPostgres
from scriptorium.sources.postgres.source import PostgresSource

ITEMS = (
    "CREATE TABLE items (id serial PRIMARY KEY, title text); "
    "INSERT INTO items (title) SELECT 't' || g FROM generate_series(1, 2000) g;"
)


def captured(source: PostgresSource, stage: Path):
    stage.mkdir()
    source.capture(stage)
    return source.examine(stage, ())


def dump_of(staged) -> Path:
    return next(Path(staged.trees[0].root).glob("*/toc.dat")).parent


def restored_rows(staged, server, name: str) -> str:
    with psycopg.connect(server.address(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}")
    subprocess.run([server.programs / "pg_restore", "--dbname", server.address(name), dump_of(staged)], check=True)
    return server.address(name)


def test_a_dump_and_its_fingerprints_are_of_one_snapshot(every_server, new_database, tmp_path):
    """Writers move money between two tables during the dump: the sum is the same in each snapshot, and the contents of
    the dump agree with its fingerprints."""
    url = new_database(every_server, "CREATE TABLE a (id int, v int); CREATE TABLE b (id int, v int);"
                       "INSERT INTO a SELECT g, 10 FROM generate_series(1, 5000) g; INSERT INTO b SELECT g, 10 FROM "
                       "generate_series(1, 5000) g; CREATE SEQUENCE moves")  # fmt: skip
    over = threading.Event()

    def write() -> None:
        with psycopg.connect(url) as session:
            while not over.is_set():
                session.execute(
                    "WITH n AS (SELECT nextval('moves') % 5000 + 1 AS id), o AS (UPDATE a SET v = v - 1 FROM n "
                    "WHERE a.id = n.id) UPDATE b SET v = v + 1 FROM n WHERE b.id = n.id"
                )
                session.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        source = PostgresSource(database=url, tools=every_server.programs, jobs=2)
        staged = captured(source, tmp_path / "stage")
    finally:
        over.set()
        writer.join()
    assert staged.tables["public.a"].rows == staged.tables["public.b"].rows == 5000
    back = restored_rows(staged, every_server, f"back_{os.getpid()}_{every_server.port}")
    with psycopg.connect(back) as session:
        assert session.execute("SELECT (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b)").fetchone() == (100_000,)
    assert (
        captured(PostgresSource(database=back, tools=every_server.programs), tmp_path / "again").tables == staged.tables
    )


def test_everything_is_restored_with_equal_fingerprints(every_server, new_database, everything, tmp_path):
    url = new_database(every_server, everything)
    staged = captured(PostgresSource(name="db", database=url, tools=every_server.programs), tmp_path / "stage")
    root = Path(staged.trees[0].root)
    assert [tree.at for tree in staged.trees] == ["db"] == [staged.path]
    assert sorted(path.name for path in root.iterdir()) == ["globals.sql", url.rpartition("/")[2]]
    assert staged.engine_version.startswith(str(re.search(r"\d+", staged.engine_version)[0]))
    assert {"public.stale", "public.volatile_one", "public.unfilled"}.isdisjoint(staged.tables)
    assert sorted(w.split(" ")[0] for w in staged.warnings) == [
        "public.stale",
        "public.unfilled",
        "public.volatile_one",
    ]
    assert "CREATE ROLE" in (root / "globals.sql").read_text()


def test_an_older_server_is_dumped_by_a_newer_client_and_not_the_other_way_round(
    generations, server_of, new_database, tmp_path
):
    if len(generations) < 2:
        pytest.skip("one generation only")
    old, new = server_of(generations[0]), server_of(generations[-1])
    staged = captured(PostgresSource(database=new_database(old, ITEMS), tools=new.programs), tmp_path / "up")
    assert staged.tables["public.items"].rows == 2000
    with pytest.raises(ToolMissing) as caught:
        captured(PostgresSource(database=new_database(new, ITEMS), tools=old.programs), tmp_path / "down")
    assert f"pg_dump {generations[-1]} or newer is needed" in caught.value.what
    assert str(old.programs) in caught.value.on and f"postgresql-client-{generations[-1]}" in caught.value.hint
    assert list((tmp_path / "down").iterdir()) == []


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_program_is_the_oldest_that_is_not_older_than_the_server(tmp_path, monkeypatch):
    for major in (13, 15, 16, 18):
        fake(tmp_path / f"{major}", "pg_dump", f"echo 'pg_dump (PostgreSQL) {major}.3'")
    monkeypatch.setattr(programs, "_candidates", lambda name, tools: [str(f / name) for f in tmp_path.iterdir()])
    assert [programs.find("pg_dump", wanted).version[0] for wanted in (13, 14, 15, 17)] == [13, 15, 15, 18]
    with pytest.raises(ToolMissing, match="19 or newer"):
        programs.find("pg_dump", 19)


def test_the_error_for_a_missing_pg_dump_names_the_package_and_the_folders_searched(server, new_database, tmp_path):
    with pytest.raises(ToolMissing) as caught:
        captured(PostgresSource(database=new_database(server), tools=tmp_path), tmp_path / "stage")
    assert "pg_dump was not found" in caught.value.what and str(tmp_path) in caught.value.on
    assert "apt-get install postgresql-client" in caught.value.hint


def wrapped(server, folder: Path, before: str = "", after: str = "") -> Path:
    """The server's programs, pg_dump among them wrapped in a script: real, with an accident."""
    folder.mkdir()
    for program in ("pg_restore", "pg_dumpall", "pg_dump"):
        fake(folder, program, f'exec {server.programs / program} "$@"')
    fake(folder, "pg_dump", f'[ "$1" = --version ] && exec {server.programs / "pg_dump"} --version\n'
         f'for a in "$@"; do case "$a" in --file=*) out="${{a#--file=}}";; esac; done\n{before}\n'
         f'{server.programs / "pg_dump"} "$@" || exit $?\n{after}')  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("before", "after", "kind", "words"),
    [
        ("", 'f=$(ls -S $out/*.dat | head -1); truncate -s -500 "$f"', ToolFailed, "ended early"),
        ("", 'rm "$(ls -S $out/*.dat | head -1)"', ToolFailed, "ended early"),
        ("mkdir $out; exit 0", "", Exception, "cannot be read|ended early"),
        ("exit 1", "", ToolFailed, "status 1"),
        ("kill -KILL $$", "", ToolFailed, "SIGKILL"),
        ('echo "pg_dump: error: could not write to file: No space left on device" >&2; exit 1', "", NoSpace, "disk"),
    ],
    ids=["truncated", "file missing", "nothing written", "failed", "killed", "disk full"],
)
def test_a_dump_that_ends_early_is_never_a_success(server, new_database, tmp_path, before, after, kind, words):
    tools = wrapped(server, tmp_path / "tools", before, after)
    with pytest.raises(kind, match=words):
        captured(PostgresSource(database=new_database(server, ITEMS), tools=tools), tmp_path / "stage")
    assert list((tmp_path / "stage").iterdir()) == []


def test_a_lost_connection_is_transient(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    tools = wrapped(server, tmp_path / "tools", before="sleep 2")
    killed = []

    def kill() -> None:
        with psycopg.connect(server.address(), autocommit=True) as session:
            while not killed:
                killed.extend(
                    session.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'SELECT' AND "
                        "application_name ~ '^scriptorium dump' AND application_name !~ 'watch'"
                    ).fetchall()
                )
                time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(SourceUnavailable):
        captured(PostgresSource(database=url, tools=tools), tmp_path / "stage")
    thread.join()
    assert list((tmp_path / "stage").iterdir()) == []


def test_a_server_that_is_down_is_transient(tmp_path):
    with pytest.raises(TransientError) as caught:
        PostgresSource(database="postgresql://u:secret@127.0.0.1:1/x").survey(())
    assert "x at 127.0.0.1:1" in str(caught.value) and "secret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda url: url.replace("postgres:", "postgres:wrong"), PermanentError, "refuses the password"),
        (lambda url: url + "_not_there", NotFound, "no such database"),
        (lambda url: "postgresql://[", SettingsError, "address cannot be read"),
    ],
    ids=["password", "database", "address"],
)
def test_the_error_for_a_wrong_address_names_what_is_wrong(server, new_database, change, kind, words):
    url = new_database(server)
    with pytest.raises(kind, match=words) as caught:
        PostgresSource(database=change(url)).survey(())
    assert server.password not in f"{caught.value!r} {caught.value.hint}"


def test_the_error_for_a_locked_table_names_who_holds_it(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    with psycopg.connect(url, application_name="the app") as holder:
        holder.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SnapshotBusy) as caught:
            captured(PostgresSource(database=url, tools=server.programs, lock_timeout=1.0), tmp_path / "stage")
        assert f"process {holder.info.backend_pid}" in caught.value.hint and "the app" in caught.value.hint
        assert "LOCK TABLE" in caught.value.hint
    assert list((tmp_path / "stage").iterdir()) == []


def test_the_password_is_in_no_argument_and_no_repr(server, new_database, tmp_path):
    seen = tmp_path / "seen"
    tools = wrapped(server, tmp_path / "tools", before=f'echo "$@" > {seen}; tr "\\0" " " < /proc/$$/cmdline >> {seen}')
    source = PostgresSource(database=new_database(server, ITEMS), tools=tools)
    captured(source, tmp_path / "stage")
    assert server.password not in seen.read_text()
    assert server.password not in repr(source.address()) + repr(source)


def test_the_ways_to_a_password(server, new_database, tmp_path, monkeypatch):
    url = new_database(server, ITEMS).replace(f":{server.password}", "")
    secret = tmp_path / "secret"
    secret.write_text(server.password + "\n")
    monkeypatch.setenv("MY_SECRET", server.password)
    for more in (
        {"password": server.password},
        {"password_file": secret},
        {"password_env": "MY_SECRET"},
        {"password_command": f"cat {secret}"},
        {"password_command": ["cat", str(secret)]},
    ):
        assert PostgresSource(database=url, **more).survey(()).files > 0
    service = tmp_path / "services"
    service.write_text(f"[here]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("PGPASSWORD", server.password)
    assert PostgresSource(service="here").survey(()).files >= 0
    for name, value in {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGDATABASE", url.rpartition("/")[2])
    staged = captured(PostgresSource(tools=server.programs), tmp_path / "stage")
    assert staged.tables["public.items"].rows == 2000


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_becomes_full_in_the_middle(server, new_database, tmp_path):
    url = new_database(
        server,
        "CREATE TABLE t (a text); INSERT INTO t SELECT repeat(md5(g::text), 40) FROM generate_series(1, 20000) g",
    )
    stage = tmp_path / "small"
    stage.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", stage], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(NoSpace) as caught:
            PostgresSource(database=url, tools=server.programs).capture(stage)
        assert caught.value.on == str(stage) and "free there" in caught.value.hint
        assert list(stage.iterdir()) == []
    finally:
        subprocess.run(["umount", stage], check=True)


def sessions(server) -> int:
    with psycopg.connect(server.address(), autocommit=True) as session:
        return session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^scriptorium'"
        ).fetchone()[0]


def test_an_interrupted_snapshot_leaves_nothing(server, new_database, tmp_path, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    url = new_database(server, ITEMS)
    tools = wrapped(server, tmp_path / "tools", before="sleep 30")
    monkeypatch.setattr(snapshot, "take_fingerprints", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        captured(PostgresSource(database=url, tools=tools), tmp_path / "stage")
    assert time.monotonic() - began < 15, "pg_dump was waited for"
    assert list((tmp_path / "stage").iterdir()) == []
    until = time.monotonic() + 5
    while sessions(server) and time.monotonic() < until:
        time.sleep(0.05)
    assert sessions(server) == 0


def test_a_server_that_crashes_in_the_middle_is_transient_and_can_be_asked_again(new_database, tmp_path):
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    server = EmbeddedPostgres(folder=folder).start()
    try:
        source = PostgresSource(database=new_database(server, ITEMS), tools=server.programs)
        tools = wrapped(server, tmp_path / "tools", before="sleep 3")
        crash = threading.Timer(1.0, lambda: server.stop(crash=True))
        crash.start()
        with pytest.raises(SourceUnavailable):
            captured(source.model_copy(update={"tools": tools}), tmp_path / "stage")
        crash.join()
        with pytest.raises(SourceUnavailable):
            source.survey(())
        server.start()
        assert captured(source, tmp_path / "again").tables["public.items"].rows == 2000
    finally:
        server.stop()
        shutil.rmtree(folder)
