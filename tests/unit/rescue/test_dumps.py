"""A dump in a folder: how a database is made from it, in each form that an adopted dump may have."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest
import restore_setup
from restore_setup import Home, supply_of

from scriptorium.model import Part
from scriptorium.rescue.dumps import dumps_to_load
from scriptorium.restore import Restored
from scriptorium.results import Comparison

home, memory, tmp_path = restore_setup.home, restore_setup.memory, restore_setup.tmp_path  # fixtures of these tests
_NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("file", "load"),
    [
        ("my books/toc.dat", "pg_restore --exit-on-error -d 'my books_new' '{}/my books'"),
        ("books/dump.000001", "cat {}/books/dump.* | pg_restore --exit-on-error -d books_new"),
        ("books.dump", "pg_restore --exit-on-error -d books_new < {}/books.dump"),
        ("books.sql", "psql -v ON_ERROR_STOP=1 -1 -d books_new < {}/books.sql"),
        ("books.sql.gz", "gunzip -c {}/books.sql.gz | psql -v ON_ERROR_STOP=1 -1 -d books_new"),
    ],
)
def test_every_form_has_its_command(home: Home, tmp_path: Path, file: str, load: str) -> None:
    part = Part("db", "postgres", "postgres", 0, 1, _NOW, _NOW, "pg_dump 15.1, one snapshot")
    manifest = dataclasses.replace(supply_of(home.settings).manifest, parts=(part,))
    folder = tmp_path / "out" / "postgres"
    (folder / file).parent.mkdir(parents=True)
    (folder / file).touch()
    (folder / "globals.sql").touch()
    waiting = Comparison(waiting={"db": "pg_restore"})
    (found,) = dumps_to_load(manifest, Restored(str(tmp_path / "out"), 1, 0, {}, ("db",), comparison=waiting))
    database = file.partition("/")[0].partition(".")[0]
    new = f"'{database}_new'" if " " in database else f"{database}_new"
    assert (found.database, found.load) == (database, f"createdb -T template0 {new} && {load.format(folder)}")
    assert not list(dumps_to_load(manifest, Restored(str(tmp_path / "out"), 1, 0, {}, ())))
