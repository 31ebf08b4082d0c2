"""Tables of Kuzu out of an archive: what the database says is what the files say."""

from __future__ import annotations

import csv
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from scriptorium.export import Exported, place_export, run_export
from scriptorium.settings import Settings

NASTY = [
    "",
    " ",
    'quo"te',
    "comma, and",
    "line\nbreak",
    "car\r\nriage",
    "tab\t",
    "back\\slash",
    "\\N",
    "=1+1",
    "é漢😀",
    "NULL",
]


def export(settings: Settings, folder: Path, *tables: str, **more: Any) -> Exported:
    output = str(folder) if more.pop("given", True) else None
    return run_export(settings, place_export(settings, tables=tables, output=output, **more))


def cells(file: Path) -> list[list[str | None]]:
    """CSV with NULL told from the empty text: read by hand, since the csv module cannot tell."""
    rows: list[list[str | None]] = [[]]
    for quoted, bare, end in re.findall(r'(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n)', file.read_bytes().decode("utf-8")):
        raw = quoted.replace('""', '"')
        rows[-1].append(raw if quoted or not bare else bare)
        if end == "\n":
            rows.append([])
    return rows[:-1]


@pytest.fixture
def nasty(place: Any) -> Any:
    place.execute(
        *(f"CREATE (:Book {{id: 'n{number}', title: {_literal(text)}}})" for number, text in enumerate(NASTY))
    )
    place.execute("CREATE (:Book {id: 'null', title: NULL, pages: NULL})")
    return place


def _literal(text: str) -> str:
    plain = (
        text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return f"'{plain}'"


def test_a_node_table_as_csv_is_what_the_database_says(nasty, take, tmp_path):
    said = nasty.execute("MATCH (b:Book) RETURN b.id, b.title, b.pages")
    manifest = take(nasty.settings)
    done = export(nasty.settings, tmp_path / "books.csv", "Book")
    text = (tmp_path / "books.csv").read_bytes()
    with (tmp_path / "books.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "title", "pages"]
    as_csv = [["" if value is None else str(value) for value in row] for row in said]
    assert sorted(rows) == sorted(as_csv) and len(rows) == 63
    assert b'"null",,\n' in text and b'"n0","",\n' in text, "NULL is nothing, the empty text is two quotes"
    assert b'"=1+1"' in text, "nothing is changed on the quiet"
    assert not text.startswith(b"\xef\xbb\xbf")
    assert [(one.table, one.rows, one.path) for one in done.tables] == [("Book", 63, str(tmp_path / "books.csv"))]
    assert done.backup == manifest.id and done.tables[0].bytes == len(text)
    assert stat.S_IMODE((tmp_path / "books.csv").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
