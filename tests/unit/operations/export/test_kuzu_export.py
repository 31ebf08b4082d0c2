"""Tables of Kuzu exported from an archive: the files equal the database."""

from __future__ import annotations

import csv
import datetime
import json
import stat
import uuid
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from scriptorium.errors import NotFound
from scriptorium.operations import export as operation
from scriptorium.requests import ExportRequest
from scriptorium.results import ExportResult

ODD = 'Odd, "one" é'
EVERY: dict[str, Any] = {
    "i": -9223372036854775808,
    "u": 18446744073709551615,
    "d": 0.1,
    "nan": "NaN",
    "inf": "-Infinity",
    "b": True,
    "blob": "\\xab0063",
    "day": "1066-10-14",
    "ts": "2024-02-29 12:00:00.123456",
    "tz": "2024-02-29 10:00:00.000000Z",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "l": ["a", "", 'é"', None],
    "ll": [[1, 2], [3]],
    "m": {"k": 1, "j": 2},
}


def export(graph: Any, output: Path, *tables: str, format: str = "csv") -> ExportResult:
    return operation.export(graph.settings, ExportRequest(tables=tables, output=str(output), format=format))


def csv_rows(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened))


def test_a_node_table_as_csv_equals_the_database(graph, nasty, tmp_path):
    message = graph.ask("MATCH (b:Book) RETURN b.id, b.title, b.pages")
    done = export(graph, tmp_path / "books.csv", "Book")
    header, *rows = csv_rows(tmp_path / "books.csv")
    text = (tmp_path / "books.csv").read_bytes()
    assert header == ["id", "title", "pages"]
    assert sorted(rows) == sorted(["" if value is None else str(value) for value in row] for row in message)
    assert {row[1] for row in rows} == set(nasty)
    assert b'"null",,7\n' in text and b'"n0","",\n' in text, "NULL is nothing, the empty text is two quotes"
    assert b'"=1+1"' in text, "nothing is changed on the quiet"
    assert [(one.source, one.table, one.rows, one.path) for one in done.tables] == [
        ("graph", "Book", len(nasty) + 1, str(tmp_path / "books.csv"))
    ]
    assert (done.backup, done.tables[0].bytes) == (graph.manifest.id, len(text))
    assert stat.S_IMODE((tmp_path / "books.csv").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["books.csv"], "nothing else is left"


def test_a_node_table_as_json_and_parquet_equals_the_database(graph, tmp_path):
    message = {row[0]: row for row in graph.ask("MATCH (b:Book) RETURN b.id, b.title, b.pages")}
    export(graph, tmp_path / "books.json", "Book", format="json")
    export(graph, tmp_path / "books.parquet", "Book", format="parquet")
    from_json = json.loads((tmp_path / "books.json").read_text("utf-8"))
    from_parquet = pyarrow.parquet.read_table(tmp_path / "books.parquet").to_pylist()
    for rows in (from_json, from_parquet):
        assert {row["id"]: list(row.values()) for row in rows} == message
        assert list(rows[0]) == ["id", "title", "pages"]


def test_every_type_in_json(graph, tmp_path):
    export(graph, tmp_path / "every.json", "Every", format="json")
    one, two = sorted(json.loads((tmp_path / "every.json").read_text("utf-8")), key=lambda row: row["id"])
    assert one == {"id": 1, **EVERY}
    assert two == {"id": 2, **dict.fromkeys(EVERY)}


def test_every_type_in_csv(graph, tmp_path):
    export(graph, tmp_path / "every.csv", "Every")
    header, *rows = csv_rows(tmp_path / "every.csv")
    one, two = sorted((dict(zip(header, row, strict=True)) for row in rows), key=lambda row: row["id"])
    texts = {"b": "true", "nan": "nan", "inf": "-inf", "l": '["a", "", "é\\"", null]', "ll": "[[1, 2], [3]]"}
    expected = EVERY | texts | {"m": '{"k": 1, "j": 2}'}
    assert one == {"id": "1"} | {name: str(value) for name, value in expected.items()}
    assert two == {"id": "2"} | dict.fromkeys(EVERY, "")


def test_every_type_in_parquet(graph, tmp_path):
    export(graph, tmp_path / "every.parquet", "Every", format="parquet")
    one = min(pyarrow.parquet.read_table(tmp_path / "every.parquet").to_pylist(), key=lambda row: row["id"])
    assert one["day"] == datetime.date(1066, 10, 14)
    assert one["ts"] == datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)
    assert (one["uuid"], one["ll"]) == (uuid.UUID(EVERY["uuid"]), [[1, 2], [3]])
    assert (one["blob"], one["u"]) == (b"\xab\x00c", 18446744073709551615)


def test_relationships_have_their_ends(graph, tmp_path):
    """If several pairs of tables are connected, also the tables."""
    export(graph, tmp_path / "knows.csv", "KNOWS")
    assert csv_rows(tmp_path / "knows.csv") == [["from", "to", "since"], ["1", "2", "2020-01-01"]]
    for format in ("csv", "json", "parquet"):
        export(graph, tmp_path / f"cites.{format}", "CITES", format=format)
    header, *rows = csv_rows(tmp_path / "cites.csv")
    expected = [["Book", "n1", "Book", "n2", None, 2], ["Every", "1", "Book", "n2", "x", 1]]
    names = ["from_table", "from", "to_table", "to", "r.from", "page"]
    assert header == names
    assert sorted(rows) == [["" if value is None else str(value) for value in row] for row in expected]
    for rows in (
        json.loads((tmp_path / "cites.json").read_text("utf-8")),
        pyarrow.parquet.read_table(tmp_path / "cites.parquet").to_pylist(),
    ):
        assert sorted(rows, key=lambda row: row["page"], reverse=True) == [
            dict(zip(names, row, strict=True)) for row in expected
        ]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_all_tables_go_into_a_folder(graph, tmp_path, format):
    """Odd names, a SERIAL key (which pyarrow refuses to read), many rows, none at all."""
    done = export(graph, tmp_path / "all", format=format)
    assert {one.table: one.rows for one in done.tables} == {
        name: found.rows for name, found in graph.manifest.parts[0].tables.items()
    }
    odd = f"Odd%2C%20%22one%22%20é.{format}"
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(
        [odd, *(f"{name}.{format}" for name in ("Book", "CITES", "Empty", "Every", "KNOWS"))]
    )
    assert stat.S_IMODE((tmp_path / "all").stat().st_mode) == 0o700
    if format == "csv":
        header, *rows = csv_rows(tmp_path / "all" / odd)
        assert header == ["key col", "from"]
        assert sorted(int(row[0]) for row in rows) == list(range(30000))
        assert sorted(int(row[1]) for row in rows) == list(range(1, 30001))
        assert (tmp_path / "all" / "Empty.csv").read_bytes() == b'"id"\n'
    if format == "json":
        assert json.loads((tmp_path / "all" / "Empty.json").read_text()) == []
    if format == "parquet":
        assert pyarrow.parquet.read_table(tmp_path / "all" / "Empty.parquet").schema.names == ["id"]


def test_a_database_whose_types_parquet_does_not_keep_has_no_tables_to_export(new_graph, tmp_path):
    graph = new_graph(
        tmp_path,
        "CREATE NODE TABLE T(id INT64, v STRUCT(x INT64), PRIMARY KEY(id))",
    )
    assert graph.manifest.parts[0].export is None
    with pytest.raises(NotFound, match="no logical export") as refused:
        export(graph, tmp_path / "t.csv", "T")
    assert "raw copy" in refused.value.hint
    assert not any("t.csv" in path.name for path in tmp_path.iterdir())
