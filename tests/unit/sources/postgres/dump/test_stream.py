"""Dumps that are streamed: the same snapshot as one on the disk, whole or an error, and nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path

import psycopg
import pytest

from scriptorium.errors import (
    DamageFound,
    NoSpace,
    RestoreFailed,
    ScriptoriumError,
    SnapshotBusy,
    SourceUnavailable,
    ToolFailed,
)
from scriptorium.sources.postgres.dump import pieces
from scriptorium.sources.postgres.source import PostgresSource

PIECE = 64 << 10
ITEMS = (
    "CREATE TABLE items (id serial PRIMARY KEY, title text); "
    "INSERT INTO items (title) SELECT 't' || g || repeat('x', 50) FROM generate_series(1, 5000) g;"
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(PostgresSource, "piece", PIECE)


def streamed(source: PostgresSource, stage: Path, meanwhile=lambda number: None):
    """What goes into the archive, written into the stage; ``meanwhile`` is called behind each piece."""
    stage.mkdir()
    with source.stream(stage) as stream:
        folder = stage / "part" / stream.folder.rpartition("/")[2]
        for number, (name, data) in enumerate(stream.pieces(), 1):
            (folder / name).write_bytes(data)
            meanwhile(number)
        return stream.staged()


def staged(source: PostgresSource, stage: Path):
    stage.mkdir()
    source.capture(stage)
    return source.examine(stage, ())


def pieces_of(taken) -> list[Path]:
    return sorted(Path(taken.trees[0].root).glob("*/dump.*"))


def restored(taken, server, name: str) -> str:
    """By hand: the pieces one after the other into pg_restore."""
    with psycopg.connect(server.address(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}")
    whole = b"".join(piece.read_bytes() for piece in pieces_of(taken))
    command = [server.programs / "pg_restore", "--exit-on-error", "--dbname", server.address(name)]
    subprocess.run(command, input=whole, check=True)
    return server.address(name)


def ours(server) -> int:
    with psycopg.connect(server.address(), autocommit=True) as session:
        found = session.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^scriptorium'")
        return found.fetchone()[0]


def children() -> set[str]:
    return {name for task in Path("/proc/self/task").iterdir() for name in (task / "children").read_text().split()}


@contextlib.contextmanager
def nothing_stays(server, stage: Path):
    """No session, no process, no thread, no file."""
    before, threads = children(), set(threading.enumerate())
    yield
    until = time.monotonic() + 5
    while time.monotonic() < until and (ours(server) or children() - before or set(threading.enumerate()) - threads):
        time.sleep(0.05)
    assert ours(server) == 0
    assert children() <= before
    assert set(threading.enumerate()) <= threads
    assert list(stage.iterdir()) == []


def test_a_stream_is_what_a_dump_is(every_server, new_database, everything, tmp_path):
    url = new_database(every_server, everything)
    source = PostgresSource(name="db", database=url, tools=every_server.programs)
    taken, other = streamed(source, tmp_path / "stream"), staged(source, tmp_path / "stage")
    assert (taken.tables, taken.warnings, taken.answers) == (other.tables, other.warnings, other.answers)
    assert (taken.path, taken.engine_version) == (other.path, other.engine_version)
    assert taken.method == f"{other.method}, streamed" and taken.pending is False
    assert taken.started_at < taken.finished_at
    *full, last = [piece.stat().st_size for piece in pieces_of(taken)]
    assert len(full) > 10 and set(full) == {PIECE} and 0 < last <= PIECE
    assert [piece.name for piece in pieces_of(taken)][:2] == ["dump.000001", "dump.000002"]
    root = Path(taken.trees[0].root)
    assert sorted(path.name for path in root.iterdir()) == ["globals.sql", url.rpartition("/")[2]]
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == ["part"], "the head is gone"
    back = restored(taken, every_server, f"streamed_{os.getpid()}_{every_server.port}")
    again = staged(PostgresSource(name="db", database=back, tools=every_server.programs), tmp_path / "again")
    assert {name: again.tables.get(name) for name in taken.tables} == taken.tables


@pytest.mark.parametrize(
    "name",
    ["with space", "quo\"te'd", "per%cent/slash", "bäckup", "-dash", ".", "globals.sql", "dbname=x", "toc.dat"],
)
def test_odd_names(server, tmp_path, name):
    with psycopg.connect(server.address(), autocommit=True) as session:
        session.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    words = psycopg.conninfo.make_conninfo(server.address(), dbname=name)
    try:
        with psycopg.connect(words, autocommit=True) as session:
            session.execute(ITEMS)
        taken = streamed(PostgresSource(database=words, tools=server.programs), tmp_path / "stage")
        assert taken.tables["public.items"].rows == 5000
        assert len(pieces_of(taken)) > 3
    finally:
        with psycopg.connect(server.address(), autocommit=True) as session:
            session.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(name)))


@pytest.mark.parametrize("script", ["", "CREATE TABLE nobody ()", "CREATE SEQUENCE s; SELECT nextval('s')"])
def test_hardly_anything(server, new_database, tmp_path, script):
    source = PostgresSource(database=new_database(server, script), tools=server.programs)
    taken = streamed(source, tmp_path / "stage")
    assert taken.tables == staged(source, tmp_path / "other").tables
    assert len(pieces_of(taken)) == 1


def test_a_table_of_contents_of_many_pieces(server, new_database, tmp_path, monkeypatch):
    """200 tables: their names alone are more than one piece. Whether all are there is known all the same."""
    monkeypatch.setattr(PostgresSource, "piece", 4 << 10)
    script = "SELECT format('CREATE TABLE t%s (id serial)', g) FROM generate_series(1, 200) g"
    url = new_database(server)
    with psycopg.connect(url, autocommit=True) as session:
        for (statement,) in session.execute(script).fetchall():
            session.execute(statement)
        session.execute("SELECT nextval('t7_id_seq'), nextval('t7_id_seq')")
    source = PostgresSource(database=url, tools=server.programs)
    taken = streamed(source, tmp_path / "stage")
    assert taken.tables == staged(source, tmp_path / "other").tables and len(taken.tables) == 400
    assert taken.tables["public.t7_id_seq"] != taken.tables["public.t8_id_seq"]


def test_one_snapshot_while_others_write(server, new_database, tmp_path):
    """What is committed after the snapshot is not in it; the sum of two accounts is equal in every snapshot."""
    url = new_database(
        server,
        "CREATE TABLE a AS SELECT g AS id, 10 AS v, repeat('x', 90) AS x FROM generate_series(1, 5000) g;"
        "CREATE TABLE b AS SELECT * FROM a; CREATE SEQUENCE moves",
    )
    over = threading.Event()

    def write() -> None:
        with psycopg.connect(url) as session:
            while not over.is_set():
                session.execute(
                    "WITH n AS (SELECT nextval('moves') % 5000 + 1 AS id), o AS (UPDATE a SET v = v - 1 FROM n "
                    "WHERE a.id = n.id) UPDATE b SET v = v + 1 FROM n WHERE b.id = n.id"
                )
                session.commit()

    def meanwhile(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as session:
            session.execute("INSERT INTO a VALUES (99999, 1000, 'later')")
            session.execute("DELETE FROM b WHERE id = (SELECT min(id) FROM b)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        taken = streamed(PostgresSource(database=url, tools=server.programs), tmp_path / "stage", meanwhile)
    finally:
        over.set()
        writer.join()
    assert taken.tables["public.a"].rows == taken.tables["public.b"].rows == 5000 and len(pieces_of(taken)) > 5
    back = restored(taken, server, f"moment_{os.getpid()}_{server.port}")
    with psycopg.connect(back) as session:
        assert session.execute("SELECT (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b)").fetchone() == (100_000,)
    assert staged(PostgresSource(database=back, tools=server.programs), tmp_path / "again").tables == taken.tables


# --- what goes wrong --------------------------------------------------------------------------------------------------


def wrapped(server, folder: Path, script: str) -> Path:
    """The server's programs, but pg_dump is a script; ``$D`` is the real one with its arguments."""
    folder.mkdir()
    for program in ("pg_restore", "pg_dumpall", "pg_dump"):
        body = f'exec {server.programs / program} "$@"'
        if program == "pg_dump":
            body = f'[ "$1" = --version ] && {body}\nreal() {{ {server.programs / program} "$@"; }}\n{script}'
        (folder / program).write_text(f"#!/bin/bash\n{body}\n")
        (folder / program).chmod(0o755)
    return folder


FULL = 'echo "pg_dump: error: could not write: No space left on device" >&2; exit 1'


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ('real "$@" | head -c 200000', ToolFailed, "ended early: the data of a table"),
        ('real "$@" | head -c -1', ToolFailed, "ended early: the data of a table"),
        ('real "$@" | head -c 1000', ToolFailed, "ended early: its table of contents"),
        ("exit 0", ToolFailed, "ended early: its table of contents"),
        ("echo no dump; head -c 100000 /dev/zero", DamageFound, "cannot be read"),
        ("exit 1", ToolFailed, "status 1"),
        ('real "$@" | head -c 100000; exit 1', ToolFailed, "status 1"),
        ('real "$@" | head -c 100000; kill -KILL $$', ToolFailed, "SIGKILL"),
        (f'real "$@" | head -c 100000; {FULL}', NoSpace, "disk"),
    ],
    ids=["short", "one byte short", "shorter", "empty", "no dump", "failed", "fails late", "killed", "full"],
)
def test_a_stream_that_ends_early_is_never_a_success(server, new_database, tmp_path, script, kind, words):
    tools = wrapped(server, tmp_path / "tools", script)
    source = PostgresSource(database=new_database(server, ITEMS), tools=tools)
    with nothing_stays(server, tmp_path / "stage"), pytest.raises(kind, match=words):
        streamed(source, tmp_path / "stage")


def test_a_table_that_is_not_in_the_dump(server, new_database, tmp_path):
    tools = wrapped(server, tmp_path / "tools", 'real "$@" --exclude-table-data=items')
    source = PostgresSource(database=new_database(server, ITEMS), tools=tools)
    with nothing_stays(server, tmp_path / "stage"), pytest.raises(ToolFailed, match="a table is not in it"):
        streamed(source, tmp_path / "stage")


LARGE = "CREATE TABLE large AS SELECT g AS id, repeat(md5(g::text), 300) AS x FROM generate_series(1, 3000) g;"


def terminate(server, what: str) -> None:
    with psycopg.connect(server.address(), autocommit=True) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^scriptorium dump' "
            f"AND application_name !~ 'watch' AND query {what} 'COPY'"
        )


@pytest.mark.parametrize("what", ["~", "!~"], ids=["of pg_dump", "ours"])
def test_a_connection_that_is_lost_in_the_middle(server, new_database, tmp_path, what):
    """Both are retried; ours is noticed while the dump still flows (slowly here), not at its end."""
    slow = 'real "$@" | while head -c 100000 | grep -a . ; do sleep 0.1; done'
    tools = server.programs if what == "~" else wrapped(server, tmp_path / "tools", slow)
    busy = {} if what == "~" else {"busy": "SELECT pg_sleep(60)"}
    source = PostgresSource(database=new_database(server, LARGE), tools=tools, statements=busy)
    began = time.monotonic()
    with nothing_stays(server, tmp_path / "stage"), pytest.raises(SourceUnavailable):
        streamed(source, tmp_path / "stage", lambda number: terminate(server, what) if number == 2 else None)
    assert time.monotonic() - began < 20


def test_fingerprints_that_fail_end_the_dump(server, new_database, tmp_path):
    source = PostgresSource(
        database=new_database(server, LARGE),
        tools=wrapped(server, tmp_path / "tools", 'real "$@" | head -c 200000; sleep 60'),
        statement_timeout=0.5,
        statements={"slow": "SELECT pg_sleep(30)"},
    )
    began = time.monotonic()
    with nothing_stays(server, tmp_path / "stage"), pytest.raises(ScriptoriumError, match="timeout"):
        streamed(source, tmp_path / "stage")
    assert time.monotonic() - began < 20, "the dump was waited for"


def scanning(server) -> bool:
    with psycopg.connect(server.address(), autocommit=True) as session:
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return session.execute(asleep).fetchone()[0] > 0


@pytest.mark.parametrize("when", [0, 1, 3])
def test_an_interrupted_stream_leaves_nothing(server, new_database, tmp_path, when):
    """Interrupted by whoever reads it, while pg_dump waits for us and a scan is under way."""
    stage = tmp_path / "stage"
    stage.mkdir()
    url = new_database(server, LARGE)
    source = PostgresSource(database=url, tools=server.programs, statements={"slow": "SELECT pg_sleep(60)"})
    began = time.monotonic()
    with nothing_stays(server, stage), pytest.raises(KeyboardInterrupt), source.stream(stage) as stream:
        for number, _ in zip(range(1, when + 1), stream.pieces(), strict=False):
            assert number <= when
        until = time.monotonic() + 15
        while not scanning(server):
            assert time.monotonic() < until
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 20


def test_a_stream_that_nobody_read_is_an_error(server, new_database, tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    source = PostgresSource(database=new_database(server, LARGE), tools=server.programs)
    error = pytest.raises(ToolFailed, match="not read to its end")
    with nothing_stays(server, stage), error, source.stream(stage) as s:
        assert s.staged().pending


def test_the_error_for_a_locked_table_names_who_holds_it(server, new_database, tmp_path):
    url = new_database(server, ITEMS)
    with psycopg.connect(url, application_name="the app") as holder:
        holder.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        source = PostgresSource(database=url, tools=server.programs, lock_timeout=1.0)
        with nothing_stays(server, tmp_path / "stage"), pytest.raises(SnapshotBusy) as caught:
            streamed(source, tmp_path / "stage")
        assert f"process {holder.info.backend_pid}" in caught.value.hint and "the app" in caught.value.hint


def test_the_password_is_in_no_argument(server, new_database, tmp_path):
    seen = tmp_path / "seen"
    tools = wrapped(server, tmp_path / "tools", f'echo "$@" > {seen}; real "$@"')
    streamed(PostgresSource(database=new_database(server, ITEMS), tools=tools), tmp_path / "stage")
    assert "--format=custom" in seen.read_text() and server.password not in seen.read_text()


# --- pieces ----------------------------------------------------------------------------------------------------------


def cut(folder: Path, *contents: bytes) -> Path:
    folder.mkdir()
    for number, data in enumerate(contents, 1):
        (folder / pieces.piece_name(number)).write_bytes(data)
    return folder


def test_names_of_pieces_are_in_the_order_of_the_dump():
    numbers = [1, 9, 10, 32_768, 99_999, 100_000, 999_999]
    names = [pieces.piece_name(number) for number in numbers]
    assert sorted(names) == names and [pieces.piece_number(name) for name in names] == numbers
    assert 999_999 * pieces.PIECE > 30e12, "space for 30 TB"
    with pytest.raises(ToolFailed, match="too large"):
        pieces.piece_name(1_000_000)
    others = ("dump", "dump.1", "dump.partial", "dump.0000001", "dump.00000a", "3000.dat", "toc.dat")
    assert [pieces.piece_number(name) for name in others] == [None] * len(others)


def test_pieces_are_joined_in_place(tmp_path):
    parts = [os.urandom(70_000), os.urandom(70_000), b"", b"end"]
    folder = cut(tmp_path / "dump", *parts)
    for _ in range(2):
        pieces.join(folder)
        assert [path.name for path in folder.iterdir()] == ["dump"]
        assert (folder / "dump").read_bytes() == b"".join(parts)
    other = tmp_path / "other"
    other.mkdir()
    (other / "toc.dat").touch()
    pieces.join(other)
    assert [path.name for path in other.iterdir()] == ["toc.dat"]


def test_a_missing_piece_is_named_and_a_joining_that_was_cut_short_is_not_continued(tmp_path, monkeypatch):
    folder = cut(tmp_path / "dump", b"1", b"2", b"3")
    (folder / "dump.000002").unlink()
    with pytest.raises(DamageFound, match=r"missing: dump\.000002"):
        pieces.join(folder)
    (folder / "dump.000002").write_bytes(b"2")
    monkeypatch.setattr(pieces, "_append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pieces.join(folder)
    with pytest.raises(RestoreFailed, match="only some of"):
        pieces.join(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_joining_needs_one_piece_more_and_no_second_copy(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "none", small], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        folder = cut(small / "dump", *(os.urandom(1 << 20) for _ in range(7)))
        pieces.join(folder)
        assert (folder / "dump").stat().st_size == 7 << 20
        folder = cut(small / "more", *(os.urandom(256 << 10) for _ in range(7)))
        (small / "ballast").write_bytes(bytes((256 << 10) - 8192))
        with pytest.raises(NoSpace, match="joined"):
            pieces.join(folder)
    finally:
        subprocess.run(["umount", small], check=True)
