"""``scriptorium export`` as a user types it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Scriptorium = Callable[..., Any]


def test_tables_of_the_newest_backup_become_files(scriptorium: Scriptorium, place: Any) -> None:
    made = scriptorium("create", "--type", "database", "--json").document
    done = scriptorium("export", "--tables", "Book,AUTHORED", "--format", "json", "--json")
    assert done.code == 0, done.err
    folder = place.folder / f"{made['copies'][0]['key'].rpartition('/')[2].partition('.tar')[0]}-json"
    document = done.document
    assert (document["backup"], document["output"], document["format"]) == (made["id"], str(folder), "json")
    assert [(one["source"], one["table"], one["path"], one["rows"]) for one in document["files"]] == [
        ("kuzu", "Book", str(folder / "Book.json"), 50),
        ("kuzu", "AUTHORED", str(folder / "AUTHORED.json"), 10),
    ]
    for one in document["files"]:
        assert len(json.loads(Path(one["path"]).read_text("utf-8"))) == one["rows"]
        assert Path(one["path"]).stat().st_size == one["bytes"]

    plain = scriptorium("export", "--from", made["id"][:5], "--tables", "Person", "--output", "people.csv")
    assert plain.code == 0 and "1 table, 10 rows" in plain.out, plain.err
    with (place.folder / "people.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "name"]
    assert sorted(rows) == sorted([str(number), f"Person {number}"] for number in range(1, 11))

    again = scriptorium("export", "--tables", "Person", "--output", "people.csv")
    assert (again.code, again.out) == (2, "") and "already exists" in again.err
    unknown = scriptorium("export", "--tables", "Shelf", "--json")
    assert unknown.code == 5 and "there are: AUTHORED, Book, Person" in unknown.document["hint"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--format", "xlsx"], 2, "csv, json, parquet"),
        (["--from", "ffffffff"], 5, "no such backup"),
        ([], 5, "no good backup with a database yet"),
    ],
)
def test_mistakes_are_found_before_prefect_is_loaded(
    scriptorium: Scriptorium, words: list[str], code: int, message: str
) -> None:
    done = scriptorium("export", *words, PREFECT_API_URL="http://127.0.0.1:1/api")
    assert (done.code, done.out) == (code, "")
    assert message in done.err
