"""Restores of a library with a database: raw, from its export, and while its application runs."""

from __future__ import annotations

import dataclasses
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import restore_setup
from killed_process import dying_before, killed
from restore_setup import (
    copy,
    in_place,
    recovered,
    state_of,
    supply_of,
    take,
)

from scriptorium.catalog import Catalog
from scriptorium.errors import LibraryBusy
from scriptorium.fs import switch
from scriptorium.fs.switch import StagingFolder
from scriptorium.manifest import new_id
from scriptorium.restore import into_folder, restore_into
from scriptorium.restore.journal import Journal
from scriptorium.settings import Settings, load
from scriptorium.sources.kuzu.restore import KuzuIncoming
from scriptorium.words import Status

memory, tmp_path = restore_setup.memory, restore_setup.tmp_path  # fixtures of these tests


@pytest.fixture
def library(memory: Path, tmp_path: Path, new_place: Callable[..., Any]) -> Any:
    if not (memory / "library").exists():
        (memory / "library").mkdir()
        take(new_place(memory / "library").settings)
    copy(memory / "library", tmp_path / "copy")
    return _place(tmp_path / "copy")


def _place(folder: Path) -> Any:
    @dataclasses.dataclass(frozen=True)
    class Place:
        home: Path = folder / "library"
        database: Path = folder / "library" / "data" / "kuzu" / "bibliotheca.db"

        @property
        def settings(self) -> Settings:
            return load(folder / "scriptorium.toml", {})

        def books(self, database: Path | None = None, add: str = "") -> int:
            """The number of books, counted by a child: nothing of the engine stays in this process."""
            script = (
                "import kuzu, sys\nd = kuzu.Database(sys.argv[1])\nc = kuzu.Connection(d)\n"
                "if sys.argv[2]: c.execute(sys.argv[2])\n"
                "print(c.execute('MATCH (b:Book) RETURN count(*)').get_next()[0])\n"
            )
            query = f"CREATE (:Book {{id: '{add}', title: 'x', pages: 1}})" if add else ""
            out = subprocess.run(
                [sys.executable, "-c", script, str(database or self.database), query], capture_output=True, check=True
            )
            return int(out.stdout)

    return Place()


def test_a_database_is_restored_into_a_folder_raw_or_from_its_export(library: Any, tmp_path: Path) -> None:
    tables = {}
    for rebuild in (False, True):
        target = tmp_path / f"out-{rebuild}"
        restored = restore_into(supply_of(library.settings, rebuild=rebuild), target, new_id())
        assert restored.parts == ("kuzu", "data", "config")
        tables[rebuild] = restored.tables
        assert library.books(target / "data" / "kuzu" / "bibliotheca.db") == 50
        assert (target / "data" / "covers" / "a.jpg").exists() and (target / ".env").exists()
        assert not list(target.rglob("*.scriptorium*")) and not (target / "exports").exists()
    assert tables[False] == tables[True] and tables[False]["Book"].rows == 50


def test_a_database_comes_whole_or_not_at_all(library: Any, tmp_path: Path) -> None:
    inner = supply_of(library.settings, only=("exports/kuzu/schema.cypher",))
    restored = restore_into(inner, tmp_path / "a", new_id())
    assert restored.parts == ("kuzu",) and library.books(tmp_path / "a/data/kuzu/bibliotheca.db") == 50
    restored = restore_into(supply_of(library.settings, only=("*.jpg",)), tmp_path / "b", new_id())
    assert restored.parts == ("data",) and not (tmp_path / "b/data/kuzu").exists()
    large = inner.manifest.files
    unlisted = dataclasses.replace(inner.manifest, files=dataclasses.replace(large, entries=None, member="files.jsonl"))
    for only, parts in ((("*.jpg",), ("data",)), (("kuzu",), ("kuzu",)), (("bibliotheca.db",), ("kuzu",))):
        supply = dataclasses.replace(inner, manifest=unlisted, only=only)
        found = {part.source for part in into_folder.wanted(supply)}
        assert found >= set(parts) and ("kuzu" in found) == ("kuzu" in parts)


def test_a_database_in_place_with_files_that_came_since_around_it(library: Any) -> None:
    library.books(add="late")
    (library.home / "data" / "covers" / "late.jpg").write_bytes(b"late")
    (library.home / "config.py").write_text("DEBUG = True\n")
    restored = in_place(library.settings, supply_of(library.settings))
    assert restored.tables["Book"].rows == 50 and library.books() == 50
    assert not (library.home / "data" / "covers" / "late.jpg").exists()
    assert (library.home / "config.py").read_text() == "DEBUG = False\n"
    assert (library.home / "data" / "logs" / "app.log").read_text() == "volatile"


def test_a_database_in_place_from_its_export(library: Any) -> None:
    library.books(add="late")
    restored = in_place(library.settings, supply_of(library.settings, rebuild=True))
    assert restored.tables["Book"].rows == 50 and library.books() == 50


def test_a_lost_library_is_restored_with_its_database(library: Any) -> None:
    shutil.rmtree(library.home)
    in_place(library.settings, supply_of(library.settings))
    assert library.books() == 50 and (library.home / ".env").read_text() == "SECRET_KEY=very-secret-value\n"
    assert stat.S_IMODE((library.home / ".env").stat().st_mode) == 0o600


DATABASE_POINTS = {
    "the database is in, the files are not": dying_before(StagingFolder, "write_plan", 2),
    "the previous database is out, the new one not in": dying_before(switch, "reach", 3),
    "all is in": dying_before(Journal, "enter", 3),
    "unpacked, not opened": dying_before(KuzuIncoming, "load"),
}


@pytest.mark.parametrize("point", DATABASE_POINTS)
def test_after_a_kill_the_previous_files_and_database_are_put_back(library: Any, point: str) -> None:
    library.books(add="late")
    before = state_of(library.home)
    settings, supply = library.settings, supply_of(library.settings)
    assert killed(lambda: in_place(settings, supply), DATABASE_POINTS[point])
    assert len(recovered(settings)) == 1
    assert state_of(library.home) == before and library.books() == 51


@pytest.fixture
def application(library: Any) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A process that has the database open."""
    children = []

    def start() -> subprocess.Popen[bytes]:
        script = "import kuzu, sys\nd = kuzu.Database(sys.argv[1])\nprint('open', flush=True)\nsys.stdin.read()\n"
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(library.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout is not None and child.stdout.readline() == b"open\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_while_the_application_holds_the_database_nothing_is_replaced(
    library: Any, application: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    child = application()
    before = state_of(library.home)
    with pytest.raises(LibraryBusy) as caught:
        in_place(library.settings, supply_of(library.settings))
    assert f"process {child.pid}" in str(caught.value) and caught.value.exit_code == 4
    assert state_of(library.home) == before
    assert restore_into(supply_of(library.settings), tmp_path / "out", new_id()).tables["Book"].rows == 50


def test_an_application_that_was_started_on_half_a_restore_is_not_pulled_from_under(
    library: Any, application: Callable[[], subprocess.Popen[bytes]]
) -> None:
    library.books(add="late")
    settings, supply = library.settings, supply_of(library.settings)
    assert killed(lambda: in_place(settings, supply), DATABASE_POINTS["all is in"])
    child = application()
    now = state_of(library.home)
    with pytest.raises(LibraryBusy) as caught:
        recovered(settings)
    assert "cut short" in caught.value.hint and f"process {child.pid}" in str(caught.value)
    assert state_of(library.home) == now
    child.kill()
    child.wait()
    assert len(recovered(settings)) == 1 and library.books() == 51


def test_a_restore_that_was_cut_short_before_the_switch_does_not_stop_a_running_application(
    library: Any, application: Callable[[], subprocess.Popen[bytes]]
) -> None:
    settings, supply = library.settings, supply_of(library.settings)
    assert killed(lambda: in_place(settings, supply), DATABASE_POINTS["unpacked, not opened"])
    application()
    assert len(recovered(settings)) == 1
    assert Catalog(settings).find(take(settings)).status is Status.VERIFIED
