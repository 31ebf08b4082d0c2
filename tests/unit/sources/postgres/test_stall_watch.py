"""Programs of PostgreSQL that make no progress are ended; those that only take long are not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_items import ID, ITEMS, ask, back_up, databases, unpack

from scriptorium import process
from scriptorium.errors import ToolStalled
from scriptorium.sources.postgres import single_file, stall_watch
from scriptorium.sources.postgres.dump.snapshot import DumpOptions
from scriptorium.sources.postgres.login import Login
from scriptorium.sources.postgres.restore.examination import Examined
from scriptorium.sources.postgres.restore.psql import run_script
from scriptorium.sources.postgres.source import PostgresSource
from scriptorium.sources.postgres.stall_watch import StallWatch

LIMIT = 1.0
LARGE = (
    "CREATE TABLE large (id int PRIMARY KEY, x text);"
    "INSERT INTO large SELECT g, repeat(md5(g::text), 300) FROM generate_series(1, 4000) g;"
)
HANG = "sleep 300 & wait; sleep 300"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch) -> None:
    monkeypatch.setattr(stall_watch, "_LOOK_SECONDS", 0.1)


def programs(server, folder: Path, name: str, script: str) -> Path:
    """The server's programs, one of them a script where it would connect."""
    folder.mkdir()
    for program in ("pg_dump", "pg_restore", "pg_dumpall", "psql"):
        real = server.programs / program
        accident = f'case "$*" in *--dbname*) {script};; esac\n' if program == name else ""
        (folder / program).write_text(f'#!/bin/bash\n{accident}exec {real} "$@"\n')
        (folder / program).chmod(0o755)
    return folder


def children(word: str) -> list[int]:
    """Processes of ours with the word in their command, and whatever else is in their groups."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "stat").read_text().rpartition(")")[2].split()
            if words[0] != "Z" and word in (entry / "cmdline").read_bytes().decode():
                found += [int(entry.name)] if int(words[1]) == os.getpid() else []
    return found


def eventually(what: Callable[[], object], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextlib.contextmanager
def stopped(word: str, when: Callable[[], object]) -> Iterator[None]:
    """At the given time, the child with the word in its command is stopped (SIGSTOP)."""
    done: list[int] = []

    def work() -> None:
        eventually(when)
        for pid in children(word):
            os.kill(pid, signal.SIGSTOP)
            done.append(pid)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert done, "nothing was stopped"


@contextlib.contextmanager
def called_stalled(server, program: str, seconds: float = 12.0) -> Iterator[None]:
    """The block ends with ``ToolStalled``, soon; no process and no session of ours stays."""
    began = time.monotonic()
    with pytest.raises(ToolStalled, match=f"{program} made no progress for ") as caught:
        yield
    assert time.monotonic() - began < seconds
    assert "stall_timeout" in caught.value.hint and caught.value.on and "PASSWORD" not in str(caught.value)
    eventually(lambda: not children(program) and not children("sleep"))
    eventually(lambda: ask(server.address(), OURS) == [(0,)])


OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^scriptorium'"


def streamed(source: PostgresSource, stage: Path, meanwhile: Callable[[int], object] = lambda number: None):
    stage.mkdir()
    with source.stream(stage) as stream:
        folder = stage / "part" / stream.folder.rpartition("/")[2]
        for number, (name, data) in enumerate(stream.pieces(), 1):
            (folder / name).write_bytes(data)
            meanwhile(number)
        return stream.staged()


# --- stalled ---------------------------------------------------------------------------------------------------------


def test_a_dump_that_is_stopped_in_the_middle(server, new_database, tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    source = PostgresSource(database=new_database(server, LARGE), tools=server.programs, stall_timeout=LIMIT)

    def begun() -> bool:
        return sum(file.stat().st_size for file in stage.rglob("*.dat")) > 1 << 20

    with called_stalled(server, "pg_dump"), stopped("--format=directory", begun):
        source.capture(stage)
    assert list(stage.iterdir()) == []


def test_a_stream_that_is_stopped_in_the_middle(server, new_database, tmp_path, monkeypatch):
    monkeypatch.setattr(PostgresSource, "piece", 1 << 20)
    source = PostgresSource(database=new_database(server, LARGE), tools=server.programs, stall_timeout=LIMIT)

    def stop(number: int) -> None:
        if number == 2:
            (pid,) = children("--format=custom")
            os.kill(pid, signal.SIGSTOP)

    with called_stalled(server, "pg_dump"):
        streamed(source, tmp_path / "stage", stop)
    assert list((tmp_path / "stage").iterdir()) == []


@pytest.mark.parametrize("how", ["staged", "streamed", "streamed, its output closed", "file"])
def test_a_dump_that_hangs_from_the_beginning(server, new_database, tmp_path, how):
    """Also where a query of our own takes long meanwhile."""
    closed = "exec >&-; " if "closed" in how else ""
    source = PostgresSource(
        database=new_database(server, ITEMS),
        tools=programs(server, tmp_path / "tools", "pg_dump", closed + HANG),
        stall_timeout=LIMIT,
        statements={} if how == "file" else {"slow": "SELECT pg_sleep(60)"},
    )
    (tmp_path / "stage").mkdir()
    with called_stalled(server, "pg_dump"):
        if how == "file":
            single_file.backup(source.address(), tmp_path / "stage" / "x.dump", options=source.dump_options)
        elif how == "staged":
            source.capture(tmp_path / "stage")
        else:
            (tmp_path / "stage").rmdir()
            streamed(source, tmp_path / "stage")
    assert list((tmp_path / "stage").iterdir()) == []


@pytest.fixture
def large(server, new_database, tmp_path):
    """As ``library``, with a table that takes some time to load."""
    url = new_database(server, LARGE)
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", stall_timeout=LIMIT)
    staged, part = back_up(source, tmp_path / "stage")
    ask(url, "DELETE FROM large WHERE id > 10")
    return source, staged, part, url, url.rpartition("/")[2]


def test_a_restore_that_is_stopped_in_the_middle(large, server):
    source, staged, part, url, name = large

    def loading() -> bool:
        with psycopg.connect(server.address(), autocommit=True) as session:
            query = "SELECT FROM pg_stat_activity WHERE application_name ~ '^scriptorium restore' AND query ~ '^COPY'"
            return session.execute(query).fetchone() is not None

    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    with called_stalled(server, "pg_restore"), stopped("--section=data", loading):
        incoming.load()
    incoming.undo()
    assert databases(server, name) == {name} and ask(url, "SELECT count(*) FROM large") == [(10,)]
    assert not list(source.staging.iterdir())


def test_a_restore_in_place_that_hangs(large, server, tmp_path):
    source, staged, part, url, _ = large
    tools = programs(server, tmp_path / "tools", "pg_restore", HANG)
    incoming = source.model_copy(update={"in_place": True, "tools": tools}).incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    incoming.load()
    with called_stalled(server, "pg_restore"):
        incoming.switch()
    incoming.undo()
    assert ask(url, "SELECT count(*) FROM large") == [(10,)]


@pytest.mark.parametrize(("format", "program"), [("custom", "pg_restore"), ("sql", "psql")])
@pytest.mark.parametrize("script", [LARGE, ITEMS], ids=["large", "small"])
def test_one_file_whose_way_back_hangs(server, new_database, tmp_path, format, program, script):
    """Input larger than a pipe blocks while it is written, smaller input during the wait for the end."""
    source = PostgresSource(database=new_database(server, script), tools=server.programs, stall_timeout=LIMIT)
    single_file.backup(source.address(), tmp_path / "file", format=format, options=source.dump_options)
    tools = programs(server, tmp_path / "tools", program, HANG)
    empty = PostgresSource(database=new_database(server), tools=tools, stall_timeout=LIMIT)
    with called_stalled(server, program):
        single_file.restore(empty.address(), tmp_path / "file", options=empty.dump_options)


# --- only slow -------------------------------------------------------------------------------------------------------


def test_an_index_that_takes_long(server, new_database, tmp_path):
    """Longer than the limit, only in the database that is restored: the server works, and its program does nothing."""
    url = new_database(
        server,
        "CREATE FUNCTION slow(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF "
        f"current_database() ~ '_restore_' THEN PERFORM pg_sleep({3 * LIMIT}); END IF; RETURN x; END $$;"
        "CREATE TABLE one (x text); INSERT INTO one VALUES ('a'); CREATE INDEX ON one (public.slow(x))",
    )
    source = PostgresSource(database=url, tools=server.programs, staging=tmp_path / "staging", stall_timeout=LIMIT)
    staged, part = back_up(source, tmp_path / "stage")
    incoming = source.incoming(part, ID)
    incoming.prepare()
    unpack(staged, incoming)
    began = time.monotonic()
    incoming.load()
    assert time.monotonic() - began > 3 * LIMIT
    incoming.undo()


def test_a_statement_of_psql_that_takes_long(server, new_database, tmp_path):
    script = tmp_path / "slow.sql"
    script.write_text(f"SELECT pg_sleep({3 * LIMIT});\nCREATE TABLE made ();\n")
    url = new_database(server)
    run_script(script, Login(database=url).address(), 15, server.programs, Examined(), stall_timeout=LIMIT)
    assert ask(url, "SELECT count(*) FROM made") == [(0,)]


def test_a_dump_that_waits_for_its_server(server, new_database, tmp_path):
    """For a lock, which has a limit of its own."""
    url, go = new_database(server, ITEMS), tmp_path / "go"
    tools = programs(server, tmp_path / "tools", "pg_dump", f"until [ -e {go} ]; do sleep 0.02; done")
    options = DumpOptions(tools=tools, stall_timeout=LIMIT)

    def lock() -> None:
        eventually(lambda: children("--format=c"))
        with psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            go.touch()
            time.sleep(3 * LIMIT)

    thread = threading.Thread(target=lock)
    thread.start()
    began = time.monotonic()
    single_file.backup(Login(database=url).address(), tmp_path / "file", options=options)
    thread.join()
    assert time.monotonic() - began > 3 * LIMIT


def test_a_stream_whose_reader_is_slow(server, new_database, tmp_path, monkeypatch):
    monkeypatch.setattr(PostgresSource, "piece", 4 << 20)
    source = PostgresSource(database=new_database(server, LARGE), tools=server.programs, stall_timeout=LIMIT)
    taken = streamed(source, tmp_path / "stage", lambda number: time.sleep(3 * LIMIT) if number == 2 else None)
    assert taken.tables["public.large"].rows == 4000


# --- what moves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "limit", "reachable", "stalls"),
    [
        ([sys.executable, "-c", "import time; time.sleep(3)"], LIMIT, True, True),
        ([sys.executable, "-c", "import time; time.sleep(3)"], LIMIT, False, False),
        ([sys.executable, "-c", "import time; time.sleep(2)"], 0, True, False),
        ([sys.executable, "-c", "import time\nwhile time.monotonic() % 1000 and time.process_time() < 2: pass"],
         LIMIT, True, False),
    ],
    ids=["idle", "idle, and nobody can be asked", "no limit", "busy"],
)  # fmt: skip
def test_what_counts_as_moving(server, words, limit, reachable, stalls):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    address = Login(database=server.address() if reachable else f"postgresql://x@127.0.0.1:{port}/x").address()
    child = process.start(words)
    outcome = pytest.raises(ToolStalled, match="it has no session") if stalls else contextlib.nullcontext()
    try:
        with outcome, StallWatch(child, "it", address, "scriptorium test", limit):
            child.wait()
    finally:
        process.end(child)
    assert (child.returncode == 0) is not stalls


def test_a_child_that_ended_well_just_before_the_limit_is_no_stall(server):
    child = process.start(["true"])
    watch = StallWatch(child, "it", Login(database=server.address()).address(), "scriptorium test", 60)
    with watch:
        child.wait()
        watch._end(60.0)
    process.end(child)


# --- connections -----------------------------------------------------------------------------------------------------


def test_a_server_that_vanished_is_noticed_by_every_connection(server, new_database):
    """The options of the address are respected, and a server that reads a restore slowly has not vanished."""
    address = Login(database=server.address()).address()
    with address.session() as session, socket.socket(fileno=os.dup(session.fileno())) as line:
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [line.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 10, 6, 120_000]
    assert "keepalives_idle=60" in address.of_child("x") and "tcp_user_timeout=120000" in address.of_child("x")
    assert "tcp_user_timeout" not in address.of_child("x", sends=True)
    given = f"{server.address()}?keepalives_idle=7&tcp_user_timeout=9000"
    own = Login(database=given).address()
    assert "keepalives_idle=7" in own.of_child("x") and "tcp_user_timeout=9000" in own.of_child("x", sends=True)


def test_a_child_is_known_by_its_name_whatever_the_address_is(server):
    address = Login(database=f"{server.address()}?application_name=mine").address()
    psql = [str(server.programs / "psql"), "-XAtc", "SHOW application_name", address.of_child("scriptorium x")]
    assert process.run(psql, env=address.environment()).stdout == b"scriptorium x\n"
