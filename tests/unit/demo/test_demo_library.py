"""The demo's library is a real one: its tables, its files, and a writer whose commits can be checked."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import kuzu
import pytest

from scriptorium import process
from scriptorium.demo.bibliotheca import DATABASE, Summary, build_bibliotheca
from scriptorium.demo.installation import cover_paths
from scriptorium.demo.pledge import Pledge, acknowledged, read_pledge
from scriptorium.demo.rows import Rows
from scriptorium.demo.schema import NODES, RELATIONSHIPS
from scriptorium.demo.sizes import build_size
from scriptorium.demo.writer import default_log, writing
from scriptorium.errors import ToolFailed, UsageError
from scriptorium.presets import bibliotheca as preset


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A library that tests only read."""
    return build_bibliotheca(tmp_path_factory.mktemp("demo") / "bibliotheca", books=300, covers=12, seed=7)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bibliotheca(tmp_path_factory.mktemp("small") / "bibliotheca", books=30, covers=2).home


@pytest.fixture
def living(small: Path, tmp_path: Path) -> Path:
    """A small library of one's own, to be written to."""
    return Path(shutil.copytree(small, tmp_path / "bibliotheca"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ask(database: Path, query: str) -> list[list[object]]:
    with kuzu.Database(database, read_only=True) as opened, kuzu.Connection(opened) as connection:
        result = connection.execute(query)
        assert not isinstance(result, list)
        return [list(row) for row in result.get_all()]


# --- the library --------------------------------------------------------------------------------------------------


def test_every_table_has_the_rows_of_the_summary(built: Summary) -> None:
    with kuzu.Database(built.database, read_only=True) as opened, kuzu.Connection(opened) as connection:
        listed = connection.execute("CALL show_tables() RETURN name, type")
        assert not isinstance(listed, list)
        kinds = {row[0]: row[1] for row in listed.get_all()}
        counts = {}
        for name, kind in kinds.items():
            pattern = f"(x:{name})" if kind == "NODE" else f"()-[x:{name}]->()"
            found = connection.execute(f"MATCH {pattern} RETURN count(x)")
            assert not isinstance(found, list)
            counts[name] = found.get_next()[0]
    assert {name for name, kind in kinds.items() if kind == "NODE"} == set(NODES)
    assert {name for name, kind in kinds.items() if kind == "REL"} == set(RELATIONSHIPS)
    assert counts == built.tables
    assert len(NODES) == 21
    assert built.books == 300 and built.people > 100 and built.readers == 5 and built.reading_logs > 500
    assert built.relationships == sum(count for name, count in counts.items() if name in RELATIONSHIPS) > 3000
    assert built.bytes == built.database.stat().st_size
    assert str(built).startswith(f"300 books, {built.people} people, 5 readers, {built.reading_logs:,} reading logs")


def test_the_relationships_are_consistent(built: Summary) -> None:
    assert ask(built.database, "MATCH (b:Book) WHERE NOT EXISTS { MATCH (:Person)-[:AUTHORED]->(b) } RETURN b.id") == []
    stray = (
        "MATCH (u:User)-[:LOGGED]->(l:ReadingLog)-[:FOR_BOOK]->(b:Book) WHERE l.user_id <> u.id OR l.book_id <> b.id"
    )
    assert ask(built.database, f"{stray} RETURN l.id") == []
    roles = ask(built.database, "MATCH ()-[a:AUTHORED]->() RETURN DISTINCT a.role")
    assert {"authored", "translated"} <= {row[0] for row in roles}
    assert ask(built.database, "MATCH (c:Category)-[:PARENT_CATEGORY]->(p) WHERE c.parent_id <> p.id RETURN c.id") == []


def test_the_text_is_of_the_kind_that_goes_wrong(built: Summary) -> None:
    notes = [
        str(row[0]) for row in ask(built.database, "MATCH ()-[m:HAS_PERSONAL_METADATA]->() RETURN m.personal_notes")
    ]
    assert any("\r\n" in note for note in notes) and any('"' in note for note in notes)
    subtitles = [row[0] for row in ask(built.database, "MATCH (b:Book) RETURN b.subtitle")]
    assert "" in subtitles and None in subtitles
    people = "".join(str(row[0]) for row in ask(built.database, "MATCH (p:Person) RETURN p.name"))
    assert any(ord(sign) > 0x3000 for sign in people) and "'" in people
    assert [1.7e-07] in ask(built.database, "MATCH (b:Book) RETURN DISTINCT b.average_rating")


def test_the_files_are_those_of_an_installation(built: Summary) -> None:
    home, data = built.home, built.home / "data"
    assert (home / ".env").stat().st_mode & 0o777 == 0o600 and "SECRET_KEY=" in (home / ".env").read_text()
    assert {"config.py", "docker-compose.yml", "requirements.txt"} <= set(names(home))
    compile((home / "config.py").read_text(), "config.py", "exec")
    assert names(data / "kuzu") == [".container_marker", "bibliotheca.db"]
    assert (data / "system_config.json").exists() and (data / "user_settings" / "reader0.json").exists()
    assert preset.looks_like(home)
    for volatile in ("flask_sessions", "locks", "logs", "backups"):
        assert any((data / volatile).iterdir())
        assert f"/{volatile}" in preset.VOLATILE
    assert any(path.name.startswith("pm_") for path in (data / "locks").iterdir())


def test_the_covers_are_pictures_that_books_point_to(built: Summary) -> None:
    covers = built.home / "data" / "covers"
    pictures = [path for path in covers.rglob("*") if path.is_file()]
    assert len(pictures) == built.covers == 12
    assert {len(path.relative_to(covers).parts) for path in pictures} == {1, 2}
    pointed = {str(row[0]) for row in ask(built.database, "MATCH (b:Book) WHERE b.cover_url <> '' RETURN b.cover_url")}
    assert pointed == {f"/covers/{path.relative_to(covers).as_posix()}" for path in pictures}
    assert len({path.read_bytes() for path in pictures}) == 12
    for path in pictures:
        assert png_size(path.read_bytes()) == (120, 180)


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG of eight-bit colours, after checking every chunk and the amount of pixels."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, pixels, size = 8, b"", (0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(name + body),)
        pixels += body if name == b"IDAT" else b""
        size = struct.unpack(">II", body[:8]) if name == b"IHDR" else size
        at += 12 + length
    assert len(zlib.decompress(pixels)) == size[1] * (1 + 3 * size[0])
    return size


def test_the_same_seed_gives_the_same_library(built: Summary, tmp_path: Path) -> None:
    again = build_bibliotheca(tmp_path / "again", books=300, covers=12, seed=7)
    assert again.tables == built.tables
    for path in built.home.rglob("*"):
        if path.is_file() and path != built.database:
            assert (again.home / path.relative_to(built.home)).read_bytes() == path.read_bytes()
    query = (
        "MATCH (p)-[a:AUTHORED]->(b) RETURN p.name, a.role, b.title, b.description, b.created_at ORDER BY b.id, p.id"
    )
    assert ask(again.database, query) == ask(built.database, query)
    assert Rows(20, cover_paths(2, 7), 7).tables() == Rows(20, cover_paths(2, 7), 7).tables()
    assert Rows(20, [], 7).tables() != Rows(20, [], 8).tables()


def test_progress_is_reported_in_words(tmp_path: Path) -> None:
    steps: list[str] = []
    build_bibliotheca(tmp_path / "new" / "home", books=3, covers=0, advance=steps.append)
    assert steps == ["files", "0 covers", "3 books", "database"]


def test_nothing_is_built_over_something(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("do not touch")
    with pytest.raises(UsageError, match="empty folder"):
        build_bibliotheca(tmp_path, books=3, covers=0)
    with pytest.raises(UsageError, match="cannot be the home"):
        build_bibliotheca(tmp_path / "mine", books=3, covers=0)
    with pytest.raises(UsageError, match="at least one book"):
        build_bibliotheca(tmp_path / "new", books=0)
    assert names(tmp_path) == ["mine"]


# --- the writer ---------------------------------------------------------------------------------------------------


def wait_for(log: Path, number: int) -> None:
    deadline = time.monotonic() + 30
    while acknowledged(log) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start_writer(home: Path, *options: str, stdin: int | None = None) -> process.Child:
    argv = [sys.executable, "-m", "scriptorium.demo.writer", str(home), "--every", "0", *options]
    return process.start(argv) if stdin is None else process.start(argv, stdin=stdin)


@pytest.fixture
def ended() -> Iterator[list[process.Child]]:
    """Children that are ended after the test in any case."""
    children: list[process.Child] = []
    yield children
    for child in children:
        process.end(child)


def test_the_writer_keeps_its_invariant_and_continues_where_it_stopped(living: Path) -> None:
    database = living / DATABASE
    for least in (12, 20):
        with writing(living, every=0) as writer:
            wait_for(writer.log, least)
            assert writer.pid != os.getpid()
            with pytest.raises(RuntimeError, match="lock"):
                kuzu.Database(database, read_only=True)
        assert names(database.parent) == [".container_marker", "bibliotheca.db"]  # closed cleanly: no log is left
        pledge = read_pledge(database)
        assert pledge.counter == acknowledged(default_log(living)) >= least
        assert pledge.broken(pledge.counter) == ()
        assert pledge.counts[-1] == ("authorships", pledge.counter // 5)
    numbers = [int(line) for line in default_log(living).read_text().split()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_what_was_acknowledged_survives_the_writers_death(living: Path, ended: list[process.Child]) -> None:
    # Kuzu itself does not survive every death in a checkpoint (docs/snapshots.md, its limits): none falls into this one
    child = start_writer(living, "--checkpoint", "1000000")
    ended.append(child)
    wait_for(default_log(living), 25)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert read_pledge(living / DATABASE).broken(acknowledged(default_log(living))) == ()


BREACHES = [
    ("MATCH (l:ReadingLog {id: 'live-3'}) DETACH DELETE l", ("reading logs", "logs of a reader", "logs of a book")),
    ("MATCH (:User)-[e:LOGGED]->(l:ReadingLog {id: 'live-4'}) DELETE e", ("logs of a reader",)),
    ("MATCH (l:ReadingLog {id: 'live-6'})-[e:FOR_BOOK]->(:Book) DELETE e", ("logs of a book",)),
    ("MATCH (p:Person {id: 'live-5'}) DETACH DELETE p", ("people", "authorships")),
    ("CREATE (:Book {id: 'live-999'})", ("books",)),
]


def test_a_breach_of_the_pledge_is_seen(living: Path) -> None:
    with writing(living, every=0) as writer:
        wait_for(writer.log, 10)
    database = living / DATABASE
    whole = read_pledge(database)
    assert whole.broken(whole.counter + 1) == (
        f"transaction {whole.counter + 1} was acknowledged, but only {whole.counter} are there",
    )
    for breach, expected in BREACHES:
        with kuzu.Database(database) as opened, kuzu.Connection(opened) as connection:
            connection.execute("BEGIN TRANSACTION")
            connection.execute(breach)
            connection.execute("COMMIT")
        after = read_pledge(database)
        changed = [name for (name, new), (_, old) in zip(after.counts, whole.counts, strict=True) if new != old]
        assert tuple(changed) == expected
        assert len(after.broken()) >= len(expected)
        whole = after
    assert not Pledge(10, (("reading logs", 10), ("books", 2))).broken(10)


def test_the_writer_ends_with_its_input(living: Path, ended: list[process.Child]) -> None:
    reading, writing_end = os.pipe()
    child = start_writer(living, stdin=reading)
    ended.append(child)
    os.close(reading)
    wait_for(default_log(living), 2)
    assert child.poll() is None
    os.close(writing_end)
    assert child.wait(timeout=30) == 0
    assert read_pledge(living / DATABASE).broken() == ()


def test_the_writer_ends_when_its_time_is_up(living: Path, ended: list[process.Child]) -> None:
    child = start_writer(living, "--seconds", "0.3", "--log", str(living.parent / "other.log"))
    ended.append(child)
    assert child.wait(timeout=30) == 0
    assert acknowledged(living.parent / "other.log") > 0 and not default_log(living).exists()
    assert child.stdout is not None and child.stdout.read() == b""  # it may share its standard output with --json


def test_the_writer_reports_why_it_cannot_start(living: Path, tmp_path: Path) -> None:
    missing = process.run([sys.executable, "-m", "scriptorium.demo.writer", str(tmp_path / "none")], check=False)
    assert missing.status == 2 and "no demo library here" in missing.stderr
    with writing(living):
        second = process.run([sys.executable, "-m", "scriptorium.demo.writer", str(living)], check=False)
        assert second.status == 4 and "has the database open" in second.stderr
        with pytest.raises(ToolFailed, match="status 4"), writing(living):
            pass


def test_an_unfinished_acknowledgement_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert acknowledged(log) == 0
    for content, expected in ((b"", 0), (b"1", 0), (b"1\n", 1), (b"1\n2\n3", 2), (b"9\n10\n", 10)):
        log.write_bytes(content)
        assert acknowledged(log) == expected


# --- databases of a wanted size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("megabytes", [6, 25])
def test_a_database_has_about_the_wanted_size(tmp_path: Path, megabytes: int) -> None:
    path = tmp_path / "big.db"
    size = build_size(path, megabytes, seed=3)
    assert size == path.stat().st_size == pytest.approx(megabytes << 20, rel=0.25)
    assert names(tmp_path) == ["big.db"]
    books = ask(path, "MATCH (b:Book) RETURN count(b)")[0][0]
    assert ask(path, "MATCH (:Person)-[:AUTHORED]->(b:Book) RETURN count(b)") == [[books]]


def test_a_sized_database_is_not_put_over_something(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    with pytest.raises(UsageError, match="already"):
        build_size(tmp_path / "there", 10)
    with pytest.raises(UsageError, match="at least"):
        build_size(tmp_path / "small", 1)
