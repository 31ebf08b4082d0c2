"""The logical export: tested before it is listed; equal to the raw copy, or the differences are named."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kuzu
import pytest

from scriptorium.model import Part, Staged
from scriptorium.quiesce.pause import snapshot
from scriptorium.sources import RestoreOptions
from scriptorium.sources.kuzu import export, memory, reader
from scriptorium.sources.kuzu.source import KuzuSource

NEW = Path("new.db")
REBUILD = RestoreOptions.chosen({"rebuild": True})


def make(path: Path, *statements: str) -> None:
    database = kuzu.Database(str(path), buffer_pool_size=128 << 20)
    connection = kuzu.Connection(database)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    database.close()


def ask(path: Path, *questions: str) -> list[Any]:
    """The first value of each answer, in one session that may write; an error by its first words."""
    database = kuzu.Database(str(path), buffer_pool_size=128 << 20)
    connection = kuzu.Connection(database)
    found: list[Any] = []
    for question in questions:
        try:
            answer = connection.execute(question)
            assert isinstance(answer, kuzu.QueryResult)
            found.append(next(iter(answer.get_next())) if answer.has_next() else None)
        except RuntimeError as error:
            found.append(str(error)[:30])
    connection.close()
    database.close()
    return found


def stage(path: Path, folder: Path) -> Staged:
    folder.mkdir()
    return snapshot(KuzuSource(name="graph", path=path), folder, ())


def rebuilt(staged: Staged, folder: Path, target: Path) -> Path:
    """The database that is made from the export, by the way that a restore goes."""
    assert staged.export is not None, staged.warnings
    part = Part("graph", "kuzu", staged.path, 0, 0, staged.started_at, staged.finished_at, "hot", export=staged.export)
    incoming = KuzuSource(name="graph", path=target).incoming(part, "0123456789ab", options=REBUILD)
    incoming.prepare()
    for file in (folder / "export").iterdir():
        place = incoming.receive(f"{staged.export}/{file.name}")
        assert place is not None
        place.parent.mkdir(exist_ok=True)
        shutil.copy(file, place)
    assert incoming.load() == staged.tables
    incoming.switch()
    incoming.finish()
    return target


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "old").mkdir()
    yield tmp_path / "old" / "graph.db"


STATEMENTS = (
    "CREATE SEQUENCE loan START 100 INCREMENT 5 MAXVALUE 200 CYCLE",
    "CREATE SEQUENCE unasked START 7",
    "CREATE SEQUENCE down INCREMENT -1",
    "CREATE SEQUENCE full MAXVALUE 1",
    "CREATE NODE TABLE Book (id SERIAL, title STRING DEFAULT 'it\\'s; \"x\"', code UUID DEFAULT gen_random_uuid(), "
    "since DATE DEFAULT date('2020-01-01'), tags STRING[] DEFAULT ['a;b'], PRIMARY KEY (id))",
    "CREATE NODE TABLE Shelf (id INT64 DEFAULT nextval('loan'), gone STRING, PRIMARY KEY (id))",
    "CREATE NODE TABLE Empty (id SERIAL, PRIMARY KEY (id))",
    "CREATE REL TABLE ON_IT (FROM Book TO Shelf, FROM Shelf TO Shelf, note STRING DEFAULT 'on it', MANY_ONE)",
    "CREATE REL TABLE SPAN (FROM Book TO Book, `from` STRING, `to` STRING DEFAULT 'end', pages INT64)",
    "ALTER TABLE Shelf RENAME gone TO stays",
    "ALTER TABLE Shelf ADD later STRING DEFAULT 'later'",
    *(f"CREATE (:Book {{title: '{title}'}})" for title in "abcde"),
    "MATCH (b:Book {title: 'e'}) DELETE b",
    "CREATE (:Shelf), (:Shelf {stays: 'x'})",
    "MATCH (b:Book {title: 'a'}), (s:Shelf {stays: 'x'}) CREATE (b)-[:ON_IT]->(s)",
    "MATCH (a:Book {title: 'a'}), (b:Book {title: 'b'}) CREATE (a)-[:SPAN {`from`: 'p1', pages: 3}]->(b)",
    "RETURN nextval('down')",
    "RETURN nextval('full')",
    "COMMENT ON TABLE Book IS 'what \\'we\\' \"have\"; \\\\ // x'",
    "COMMENT ON TABLE ON_IT IS 'a relationship'",
    "CREATE MACRO twice(x, y := 3) AS x + x + y",
)
QUESTIONS = (
    "CREATE (b:Book) RETURN b.id",
    "MATCH (b:Book {id: 5}) RETURN b.title",
    "MATCH (b:Book {id: 5}) RETURN b.since",
    "MATCH (b:Book {id: 5}) RETURN b.tags",
    "MATCH (b:Book {id: 5}) RETURN size(CAST(b.code AS STRING))",
    "CREATE (s:Shelf) RETURN s.id",
    "MATCH (s:Shelf {id: 110}) RETURN s.later",
    "CREATE (e:Empty) RETURN e.id",
    "RETURN nextval('loan')",
    "RETURN nextval('unasked')",
    "RETURN nextval('down')",
    "RETURN nextval('full')",
    "RETURN twice(4)",
    "CALL SHOW_TABLES() WHERE name = 'Book' RETURN comment",
    "CALL SHOW_TABLES() WHERE name = 'ON_IT' RETURN comment",
    "MATCH (a:Book {id: 2}), (b:Book {id: 3}) CREATE (a)-[s:SPAN]->(b) RETURN s.`to`",
    "MATCH (a:Book {id: 2}), (s:Shelf {stays: 'x'}) CREATE (a)-[o:ON_IT]->(s) RETURN o.note",
    "MATCH (a:Book {id: 0}), (s:Shelf) WHERE s.stays IS NULL CREATE (a)-[o:ON_IT]->(s) RETURN o.note",
)


def test_a_database_that_is_made_from_its_export_continues_as_before(place: Path, tmp_path: Path) -> None:
    make(place, *STATEMENTS)
    staged = stage(place, tmp_path / "stage")
    assert (staged.warnings, staged.export_lacks) == ((), ())
    new = rebuilt(staged, tmp_path / "stage", tmp_path / NEW)
    by_hand = tmp_path / "by-hand.db"
    make(by_hand, f"IMPORT DATABASE '{tmp_path}/stage/export'")  # as the runbook says
    expected = ask(place, *QUESTIONS)
    assert (expected[0], expected[5]) == (5, 110) and "reached maximum" not in str(expected[:11])
    assert ask(new, *QUESTIONS) == expected
    assert ask(by_hand, *QUESTIONS) == expected


@pytest.mark.parametrize(
    ("renaming", "asked"),
    [
        ("ALTER TABLE A RENAME TO B", "CREATE (n:B) RETURN n.id"),
        ("ALTER TABLE A RENAME id TO k", "CREATE (n:A) RETURN n.k"),
    ],
)
def test_a_counter_follows_a_table_that_got_another_name(
    place: Path, tmp_path: Path, renaming: str, asked: str
) -> None:
    make(place, "CREATE NODE TABLE A (id SERIAL, n STRING, PRIMARY KEY (id))", "CREATE (:A), (:A)", renaming)
    staged = stage(place, tmp_path / "stage")
    assert not staged.warnings
    assert ask(rebuilt(staged, tmp_path / "stage", tmp_path / NEW), asked) == ask(place, asked) == [2]


def test_indexes_are_restored(place: Path, tmp_path: Path) -> None:
    make(
        place,
        "CREATE NODE TABLE Book (id INT64, title STRING, e FLOAT[4], PRIMARY KEY (id))",
        "CREATE (:Book {id: 1, title: 'the tale', e: [1.0, 2.0, 3.0, 4.0]})",
        "CREATE NODE TABLE Stop (w STRING, PRIMARY KEY (w))",
        "CREATE (:Stop {w: 'the'})",
        "CALL CREATE_VECTOR_INDEX('Book', 'near', 'e', metric := 'l2')",
        "CALL CREATE_FTS_INDEX('Book', 'words', ['title'], stopwords := 'Stop')",
    )
    staged = stage(place, tmp_path / "stage")
    assert not staged.warnings
    new = rebuilt(staged, tmp_path / "stage", tmp_path / NEW)
    found = ask(
        new,
        "CALL QUERY_FTS_INDEX('Book', 'words', 'tale') RETURN node.title",
        "CALL QUERY_VECTOR_INDEX('Book', 'near', [1.0, 2.0, 3.0, 4.0], 1) RETURN node.id",
    )
    assert found == ["the tale", 1]


_ODD = ('the "best"', "a\\b", "a'b", "a*b", "a;b", "a,b (c)", "a\nb", "é漢😀", " x ", "COPY", "a{b}[c]")


@pytest.mark.parametrize(
    "names", [pytest.param(_ODD, id="all"), *(pytest.param((name,), id=name, marks=pytest.mark.slow) for name in _ODD)]
)
def test_odd_names_have_an_export_that_brings_them_back(place: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    statements = (
        (
            f"CREATE NODE TABLE `{name}` (id INT64, `{name}` STRING DEFAULT 'd', PRIMARY KEY (id))",
            f"CREATE REL TABLE `to {name}` (FROM `{name}` TO `{name}`, `{name}` STRING)",
            f"CREATE (:`{name}` {{id: 1, `{name}`: 'x'}})-[:`to {name}` {{`{name}`: 'y'}}]->(:`{name}` {{id: 2}})",
        )
        for name in names
    )
    make(place, *itertools.chain.from_iterable(statements))
    staged = stage(place, tmp_path / "stage")
    assert not staged.warnings
    new = rebuilt(staged, tmp_path / "stage", tmp_path / NEW)
    for name in names:
        query = f"MATCH (:`{name}`)-[r:`to {name}`]->(b:`{name}`) RETURN concat(r.`{name}`, b.`{name}`)"
        assert ask(new, query) == ["yd"], name


def test_a_name_that_the_engine_cannot_export_has_a_backup_without(place: Path, tmp_path: Path) -> None:
    make(place, "CREATE NODE TABLE `a/b` (id INT64, PRIMARY KEY (id))", "CREATE (:`a/b` {id: 1})")
    staged = stage(place, tmp_path / "stage")
    assert staged.export is None and "no logical export of graph.db" in staged.warnings[0]
    assert staged.tables is not None and staged.tables["a/b"].rows == 1
    assert not list((tmp_path / "stage").glob("export*"))


def test_a_name_that_is_a_path_moves_no_file_of_others(place: Path, tmp_path: Path) -> None:
    """Kuzu's export makes the table's name the name of a file, and of `/x` joined to a folder nothing is left of it."""
    others = Path("/scriptorium-test-of-names.parquet")
    with contextlib.suppress(OSError):  # where we may not write there, nothing can be moved
        others.write_text("of others")
    try:
        make(place, f"CREATE NODE TABLE `{others.with_suffix('')}` (id INT64, PRIMARY KEY (id))")
        staged = stage(place, tmp_path / "stage")
        assert staged.export is None and "a name with '/'" in staged.warnings[0]
        assert others.exists() == os.access("/", os.W_OK)
    finally:
        with contextlib.suppress(OSError):
            others.unlink()


def test_what_an_export_may_lack_is_named(place: Path, tmp_path: Path) -> None:
    """Kuzu reports the default -3 as 3."""
    make(place, "CREATE NODE TABLE Book (id INT64, stars INT64 DEFAULT -3, PRIMARY KEY (id))", "CREATE (:Book {id: 1})")
    staged = stage(place, tmp_path / "stage")
    assert staged.export_lacks == ("the sign of the default 3 of Book.stars",)
    assert "does not carry: the sign of the default 3 of Book.stars" in staged.warnings[0]
    part = Part(
        "graph", "kuzu", staged.path, 0, 0, staged.started_at, staged.finished_at, "hot",
        export=staged.export, export_lacks=staged.export_lacks,
    )  # fmt: skip
    source = KuzuSource(name="graph", path=place)
    assert "the sign of the default 3 of Book.stars" in source.preconditions(part, REBUILD)["export"]()
    assert "export" not in source.preconditions(part)


def test_an_export_larger_than_the_first_pool_is_made_and_imported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every try begins anew: one that ran out of memory leaves a database that is filled in part."""
    import pyarrow as pa

    database = kuzu.Database(str(place), buffer_pool_size=1 << 30)
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE Book (id STRING, text STRING, PRIMARY KEY (id))")
    rows = pa.table({"id": [str(n) for n in range(20_000)], "text": [f"{n:01500d}" for n in range(20_000)]})
    connection.execute("COPY Book FROM $rows", {"rows": rows})
    connection.close()
    database.close()
    monkeypatch.setattr(memory, "pools", lambda _: (64 << 20, 1 << 30))
    staged = stage(place, tmp_path / "stage")
    assert staged.export is not None, staged.warnings
    rebuilt(staged, tmp_path / "stage", tmp_path / NEW)
    recorded = reader.read(place, engine=None)
    monkeypatch.setattr(memory, "pools", lambda _: (32 << 20, 64 << 20))
    made = export.make(place, tmp_path / "poor", recorded, engine=None, share=0.5)
    assert not made.exported and "too little memory" in made.trouble and not (tmp_path / "poor").exists()


def test_no_space_to_try_it_means_no_export(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(place, "CREATE NODE TABLE Book (id INT64, PRIMARY KEY (id))")
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type(free)(free.total, free.used, 5000))
    staged = stage(place, tmp_path / "stage")
    assert staged.export is None and "no space to make and try it" in staged.warnings[0]
