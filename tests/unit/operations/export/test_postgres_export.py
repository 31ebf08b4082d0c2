"""Tables of PostgreSQL exported from an archive, without a server: the files equal the database."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet
import pytest
import real_backup

from scriptorium import process
from scriptorium.errors import DamageFound, NotFound, UnsafeArchive, UsageError
from scriptorium.model import Manifest
from scriptorium.operations import export as operation
from scriptorium.operations.export import listed
from scriptorium.requests import ExportRequest
from scriptorium.results import ExportResult
from scriptorium.settings import Settings
from scriptorium.sources import PostgresSource
from scriptorium.words import Compression

NASTY = r'''
CREATE TYPE place AS (shelf text, slot int);
CREATE TABLE nasty (id int PRIMARY KEY, t text, arr text[], j json, jb jsonb, by bytea, n numeric, f float8,
    ts timestamptz, p place, twice int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO nasty (id, t) VALUES (0, NULL), (1, ''), (2, ' '), (3, E'a\tb'), (4, E'a\nb'), (5, E'a\r\nb'), (6, 'a\b'),
    (7, '\N'), (8, '\.'), (9, 'quo"te, comma'), (10, 'é漢😀'), (11, '=1+1'), (12, E'\b\f\v\x01'), (13, 'NULL'),
    (14, '\t'), (15, E'\\\n\\'), (16, E'\u2028\u0085');
INSERT INTO nasty (id, t, arr, j, jb, by, n, f, ts, p) VALUES (100, 'x', ARRAY['a', NULL, '', 'b"c,\d', E'e\nf'],
    '{"b":1,  "a": ["x\ny"]}', '{"b": "\\", "a": null}', '\x00ff5c0a', 'NaN', '-Infinity', '2024-02-29 12:00:00.5+00',
    ROW(E'A,"1"\\', 7));
CREATE SCHEMA "Other.one";
CREATE TABLE "Other.one"."Weird ""Name"", x" ("Column; 1" int, "é, ""b""" text, "line
break" text);
INSERT INTO "Other.one"."Weird ""Name"", x" VALUES (1, 'ü', NULL), (2, NULL, '');
CREATE TABLE a (x int);
CREATE TABLE "a b" (y int);
CREATE SCHEMA other;
CREATE TABLE other.a (z text);
INSERT INTO a VALUES (1), (2);
INSERT INTO "a b" VALUES (3);
INSERT INTO other.a VALUES ('only'), (NULL), ('');
CREATE TABLE nobody ();
INSERT INTO nobody DEFAULT VALUES;
INSERT INTO nobody DEFAULT VALUES;
CREATE TABLE bare (x int, y text);
CREATE TABLE logs (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE logs_2023 PARTITION OF logs FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
INSERT INTO logs VALUES ('2023-06-01', 'l');
CREATE TABLE many AS SELECT g AS id, 'row ' || g AS t FROM generate_series(1, 25001) g;
CREATE SEQUENCE counter;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM a;
SELECT lo_from_bytea(4711, 'x');
'''
TABLES = {
    "public.nasty": 18,
    'public."a b"': 1,
    "public.a": 2,
    "other.a": 3,
    "public.nobody": 2,
    "public.bare": 0,
    "public.logs_2023": 1,
    "public.many": 25001,
    '"Other.one"."Weird ""Name"", x"': 2,
}
WITHOUT = {"public.counter", "public.counted", "pg_largeobject"}


def export(settings: Settings, output: Path, *tables: str, format: str = "csv") -> ExportResult:
    return operation.export(settings, ExportRequest(tables=tables, output=str(output), format=format))


def csv_rows(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened))


def message(url: str, columns: str, table: str) -> list[list[str | None]]:
    """The rows of the database, as text."""
    with psycopg.connect(url, options="-c timezone=UTC -c bytea_output=hex -c extra_float_digits=3") as session:
        asked = ", ".join(f"({column})::text" for column in columns.split(", "))
        return [list(row) for row in session.execute(f"SELECT {asked} FROM {table} ORDER BY 1")]  # type: ignore[call-overload]


@pytest.fixture(scope="module", params=["stage", "stream"])
def backed_up(
    make_database: Callable[..., Any],
    instant: datetime,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> tuple[str, Settings, Manifest]:
    """A dump that was copied, and one that was streamed in small pieces: rows, and names, lie across their borders."""
    url, settings = make_database(NASTY, tmp_path_factory.mktemp("nasty"), dump=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresSource, "piece", 1000)
        return url, settings, real_backup.take(settings, instant)


COLUMNS = "id, t, arr, j, jb, by, n, f, ts, p"


def test_an_exported_table_equals_the_database(backed_up, tmp_path):
    url, settings, manifest = backed_up
    expected = message(url, COLUMNS, "nasty")
    for format in ("csv", "json", "parquet"):
        done = export(settings, tmp_path / f"n.{format}", "nasty", format=format)
        assert [(one.table, one.rows) for one in done.tables] == [("public.nasty", 18)]
        assert done.backup == manifest.id
    header, *rows = csv_rows(tmp_path / "n.csv")
    assert header == COLUMNS.split(", "), "a generated column is not in a dump"
    assert sorted(rows) == [[value or "" for value in row] for row in expected]
    from_json = json.loads((tmp_path / "n.json").read_text("utf-8"))
    from_parquet = pyarrow.parquet.read_table(tmp_path / "n.parquet").to_pylist()
    for objects in (from_json, from_parquet):
        assert sorted((list(row.values()) for row in objects), key=lambda row: str(row[0])) == expected
    text = (tmp_path / "n.csv").read_bytes()
    assert b'\n"0",,,' in text and b'\n"1","",,' in text, "NULL is nothing, the empty text is two quotes"


def test_the_database_itself_reads_the_csv_back(backed_up, tmp_path):
    """The surest reader of PostgreSQL's values is PostgreSQL."""
    url, settings, _ = backed_up
    export(settings, tmp_path / "n.csv", "public.nasty")
    with psycopg.connect(url) as session:
        session.execute("CREATE TEMPORARY TABLE back AS SELECT id, t, arr, j, jb, by, n, f, ts, p FROM nasty LIMIT 0")
        with session.cursor().copy("COPY back FROM STDIN (FORMAT csv, HEADER, ENCODING 'UTF8')") as copy:
            copy.write((tmp_path / "n.csv").read_bytes())
        rows = f"SELECT ROW({COLUMNS})::text FROM"
        different = session.execute(f"SELECT count(*) FROM ({rows} nasty EXCEPT ALL {rows} back) AS d").fetchone()
        assert (different, session.execute("SELECT count(*) FROM back").fetchone()) == ((0,), (18,))


@pytest.mark.parametrize("format", ["csv", "json"])
def test_all_tables_go_into_a_folder(backed_up, tmp_path, format):
    _, settings, _ = backed_up
    left: list[str] = []
    request = ExportRequest(output=str(tmp_path / "all"), format=format)
    done = operation.export(
        settings, request, advance=lambda _: left.extend(path.name for path in tmp_path.glob(".*/spool/*/*.dat*"))
    )
    assert set(left) <= {"toc.dat"}, "what was read is gone before the next one comes"
    assert {one.table: one.rows for one in done.tables} == TABLES
    assert set(done.without_rows) == WITHOUT
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(
        f"{name}.{format}"
        for name in (
            *("public.nasty", "public.a%20b", "public.a", "other.a", "public.nobody", "public.bare"),
            *("public.logs_2023", "public.many", "Other%2Eone.Weird%20%22Name%22%2C%20x"),
        )
    )
    if format == "csv":
        assert csv_rows(tmp_path / "all" / "public.a.csv") == [["x"], ["1"], ["2"]]
        assert csv_rows(tmp_path / "all" / "public.a%20b.csv") == [["y"], ["3"]]
        assert (tmp_path / "all" / "other.a.csv").read_bytes() == b'"z"\n"only"\n\n""\n'
        assert csv_rows(tmp_path / "all" / "Other%2Eone.Weird%20%22Name%22%2C%20x.csv") == [
            ["Column; 1", 'é, "b"', "line\nbreak"],
            ["1", "ü", ""],
            ["2", "", ""],
        ]
        rows = csv_rows(tmp_path / "all" / "public.many.csv")
        assert rows[1:] == [[str(number), f"row {number}"] for number in range(1, 25002)]
        assert csv_rows(tmp_path / "all" / "public.bare.csv") == [["x", "y"]]
    else:
        assert json.loads((tmp_path / "all" / "public.nobody.json").read_text()) == [{}, {}]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("public.a", "public.a"),
        ("other.a", "other.a"),
        ("db:public.a", "public.a"),
        ("a b", 'public."a b"'),
        ("public.a b", 'public."a b"'),
        ('public."a b"', 'public."a b"'),
        ("db:many", "public.many"),
        ('Weird "Name", x', '"Other.one"."Weird ""Name"", x"'),
        ('"Other.one"."Weird ""Name"", x"', '"Other.one"."Weird ""Name"", x"'),
    ],
)
def test_names(backed_up, tmp_path, name, meant):
    _, settings, _ = backed_up
    done = export(settings, tmp_path / "one.csv", name)
    assert [(one.table, one.rows) for one in done.tables] == [(meant, TABLES[meant])]


def test_names_that_mean_nothing_or_too_much(backed_up, tmp_path):
    _, settings, _ = backed_up
    with pytest.raises(NotFound, match="no such table") as missing:
        export(settings, tmp_path / "x.csv", "nothing")
    assert "public.nasty" in missing.value.hint
    with pytest.raises(UsageError, match="several") as several:
        export(settings, tmp_path / "x.csv", "a")
    assert "public.a" in several.value.hint and "other.a" in several.value.hint
    for name in WITHOUT:
        with pytest.raises(NotFound, match="contains no rows of it"):
            export(settings, tmp_path / "x.csv", name)
    assert list(tmp_path.iterdir()) == []


def test_names_in_one_word_are_divided_at_commas_outside_of_quotes():
    assert listed('Book, public.items,"Other.one"."Weird ""Name"", x",,') == (
        *("Book", "public.items", '"Other.one"."Weird ""Name"", x"'),
    )


def test_a_table_of_no_columns(backed_up, tmp_path):
    _, settings, _ = backed_up
    export(settings, tmp_path / "n.csv", "nobody")
    assert (tmp_path / "n.csv").read_bytes() == b"\n\n\n"
    with pytest.raises(UsageError, match="rows without columns"):
        export(settings, tmp_path / "n.parquet", "nobody", format="parquet")


@pytest.mark.parametrize("dump", ["stage", "stream"])
def test_a_database_of_another_encoding_is_exported_as_utf_8(make_database, tmp_path, instant, dump):
    latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    script = "CREATE TABLE é (ü text); INSERT INTO é VALUES ('ß'); CREATE TABLE ö AS SELECT 'ä'::text AS ü;"
    _, settings = make_database(script, tmp_path, latin, dump)
    real_backup.take(settings, instant)
    export(settings, tmp_path / "e.csv", "é")
    assert (tmp_path / "e.csv").read_text("utf-8") == '"ü"\n"ß"\n'
    export(settings, tmp_path / "all", "é", "ö")
    assert (tmp_path / "all" / "public.ö.csv").read_text("utf-8") == '"ü"\n"ä"\n'


def test_what_is_lacking_or_wrong_in_a_streamed_dump_is_damage(make_database, tmp_path, instant, monkeypatch):
    """Whatever the archive lacks, an export reports it, ends, and leaves no process and no file."""
    monkeypatch.setattr(PostgresSource, "piece", 4096)
    _, settings = make_database(NASTY, tmp_path, dump="stream")
    manifest = real_backup.take(settings, instant, compression=Compression.NONE)
    archive = real_backup.archive_of(tmp_path / "backups", manifest)
    whole, running = archive.read_bytes(), set(process._live)
    pieces = [entry.path for entry in manifest.files.entries if "/dump." in entry.path]
    at = whole.index(pieces[len(pieces) // 2].encode())
    for spoiled in (
        whole[:at],  # torn off
        whole.replace(pieces[-1].encode(), pieces[-1].encode()[:-1] + b"x"),  # a piece has vanished
        whole.replace(b"row 20000", b"row 20009"),
    ):
        archive.write_bytes(spoiled)
        with pytest.raises((DamageFound, UnsafeArchive)):
            operation.export(
                settings, ExportRequest(reference=manifest.id, tables=["many"], output=str(tmp_path / "many.csv"))
            )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "scriptorium.toml"]
        assert process._live == running
