"""What ``restore`` and ``create`` answer: no more than was looked at, and by name what can be named."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rescue_home
from rescue_home import Home, supply_of

from scriptorium.cli.restoring import tables_said
from scriptorium.model import Holder, Manifest, Part, TableFacts
from scriptorium.rescue import Restored

home, memory, tmp_path = rescue_home.home, rescue_home.memory, rescue_home.tmp_path  # fixtures, for these tests alone
_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_FACTS = {name: TableFacts(1, "f") for name in ("a", "b", "c")}


def manifest_of(home: Home, **recorded: TableFacts) -> Manifest:
    part = Part("db", "postgres", "postgres", 0, 1, _NOW, _NOW, "adopted", tables=recorded or None)
    return dataclasses.replace(supply_of(home.settings).manifest, parts=(part,))


def restored(*tables: str, place: str = "in place") -> Restored:
    return Restored(place, 1, 0, {name: _FACTS[name] for name in tables}, ("db",))


@pytest.mark.parametrize(
    ("recorded", "came", "said"),
    [
        ("abc", "abc", "3, rows and fingerprints equal to the snapshot's"),
        ("", "abc", "3 loaded, of which nothing is recorded to compare them with"),
        (
            "ab",
            "abc",
            "2, rows and fingerprints equal to the snapshot's; "
            "1 loaded, of which nothing is recorded to compare them with",
        ),
        ("", "", "none"),
    ],
)
def test_only_what_was_compared_is_said_to_be_equal(home: Home, recorded: str, came: str, said: str) -> None:
    manifest = manifest_of(home, **{name: _FACTS[name] for name in recorded})
    assert tables_said(manifest, restored(*came)) == said


def test_without_the_record_nothing_is_said_to_be_equal() -> None:
    assert tables_said(None, restored("a", "b")) == "2 loaded"


def test_a_dump_in_a_folder_waits_to_be_loaded(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "postgres" / "books"
    folder.mkdir(parents=True)
    (folder / "toc.dat").touch()
    said = tables_said(manifest_of(home, a=_FACTS["a"]), restored(place=str(tmp_path / "out")))
    assert said == (
        "in a dump, which waits to be loaded: "
        f"createdb -T template0 books_new && pg_restore --exit-on-error -d books_new {folder}"
    )


def test_a_process_without_a_number_here_is_in_another_container() -> None:
    assert str(Holder(0, "in another container", "/data/x.db")) == "a process in another container has /data/x.db open"
    assert str(Holder(7, "python3", "/data/x.db")) == "process 7 (python3) has /data/x.db open"
