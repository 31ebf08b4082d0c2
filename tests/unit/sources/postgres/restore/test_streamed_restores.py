"""Streamed backups are restored: in place, beside, into folders, by hand, in drills, after an adoption."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import real_backup
import streamed_library
from streamed_library import NAMED, NOW, ask, part_of, settings_for

from scriptorium.catalog import Catalog
from scriptorium.model import Manifest
from scriptorium.operations.drill import drill
from scriptorium.operations.restore import restore
from scriptorium.operations.undo import undo_restore
from scriptorium.operations.verify import verify_stored
from scriptorium.requests import DrillRequest, RestoreRequest
from scriptorium.rescue.__main__ import main as rescue
from scriptorium.settings import Settings, load
from scriptorium.sources.postgres.source import PostgresSource
from tests.shared.adoption import adopt

small_pieces, library = streamed_library.small_pieces, streamed_library.library  # fixtures of these tests


@pytest.fixture
def backed_up(library, tmp_path) -> tuple[str, Settings, Manifest]:
    """A streamed backup, and a living library that was changed since."""
    settings = settings_for(library, tmp_path)
    manifest = real_backup.take(settings, NOW)
    ask(library, "DELETE FROM reading_progress")
    ask(library, "UPDATE items SET title = 'defaced'")
    next((tmp_path / "home" / "library").rglob("*.epub")).write_text("overwritten")
    return library, settings, manifest


def fingerprints_of(url: str, folder: Path):
    source = PostgresSource(database=url)
    folder.mkdir()
    source.capture(folder)
    return source.examine(folder, ()).tables


@pytest.mark.parametrize("clean", [False, True], ids=["beside", "in one transaction"])
def test_over_the_living_library_and_back_again(backed_up, tmp_path, clean):
    url, settings, manifest = backed_up
    restored = restore(settings, RestoreRequest(reference="latest", clean=clean, safety=False)).restored
    assert restored.tables == part_of(manifest).tables == fingerprints_of(url, tmp_path / "fingerprints")
    assert ask(url, "SELECT count(*) FROM items WHERE title = 'defaced'") == [(0,)]
    undo_restore(settings, "alexandria")
    assert ask(url, "SELECT count(*) FROM items WHERE title <> 'defaced'") == [(0,)]
    assert not list(tmp_path.glob("scriptorium-restore-*"))


def test_into_another_database(backed_up, server, tmp_path):
    _, settings, manifest = backed_up
    name = f"elsewhere_{server.port}"
    assert (
        restore(settings, RestoreRequest(reference="latest", database=name)).restored.tables == part_of(manifest).tables
    )
    assert fingerprints_of(server.address(name), tmp_path / "fingerprints") == part_of(manifest).tables


@pytest.mark.parametrize("only", [(), ("postgres",), ("postgres/*",)], ids=["all", "the part", "a pattern"])
def test_into_a_folder_it_stays_as_it_is_in_the_archive(backed_up, server, tmp_path, only):
    url, settings, manifest = backed_up
    restore(settings, RestoreRequest(reference="latest", path=tmp_path / "folder", only=only))
    assert manifest.files.entries is not None
    folder = tmp_path / "folder" / "postgres" / url.rpartition("/")[2]
    expected = [entry.path.rpartition("/")[2] for entry in manifest.files.entries if "/dump." in entry.path]
    assert sorted(path.name for path in folder.iterdir()) == expected
    by_hand(folder, server, manifest, tmp_path)


def by_hand(folder: Path, server, manifest: Manifest, tmp_path: Path) -> None:
    name = f"hand_{os.urandom(4).hex()}"
    ask(server.address(), f"CREATE DATABASE {name}")
    command = f"cat {folder}/dump.* | {server.programs}/pg_restore --exit-on-error --dbname='{server.address(name)}'"
    subprocess.run(["sh", "-c", command], check=True)
    assert fingerprints_of(server.address(name), tmp_path / name) == part_of(manifest).tables
    ask(server.address(), f"DROP DATABASE {name}")


def test_rescue_needs_nothing_but_the_store(backed_up, server, tmp_path, capsys):
    url, _, manifest = backed_up
    assert rescue([str(tmp_path / "backups"), str(tmp_path / "rescued")]) == 0
    assert "every file has the hash" in capsys.readouterr().out
    by_hand(tmp_path / "rescued" / "postgres" / url.rpartition("/")[2], server, manifest, tmp_path)


@pytest.mark.parametrize("where", ["server", "embedded"])
def test_a_drill_proves_it(backed_up, tmp_path, where):
    _, settings, manifest = backed_up
    file = tmp_path / "scriptorium.toml"
    file.write_text(file.read_text().replace('dump = "stream"', f'dump = "stream", drill = "{where}"'))
    settings = load(file, {})
    proof = drill(settings, DrillRequest()).proof
    assert proof.proven, proof.differences
    assert proof.tables == len(part_of(manifest).tables) and {check.name: check.good for check in proof.checks}[NAMED]


def test_it_is_verified_and_adopted_like_any_other(backed_up, tmp_path):
    _, settings, manifest = backed_up
    catalog = Catalog(settings)
    (copy,) = catalog.find("latest").copies
    assert verify_stored(settings, manifest.id, copy).sound
    archive = shutil.move(tmp_path / "backups" / copy.key, tmp_path / "found.tar.gz")
    shutil.rmtree(tmp_path / "backups")
    adopted = adopt(settings, Path(archive))
    assert adopted.backup.id == manifest.id
    assert (
        restore(settings, RestoreRequest(reference=manifest.id, safety=False)).restored.tables
        == part_of(manifest).tables
    )


def test_a_restore_killed_while_it_joins_is_undone_and_begins_anew(backed_up, tmp_path):
    """A half-joined dump is not continued: the next restore unpacks again."""
    url, settings, manifest = backed_up
    child = (
        "import os, sys\nfrom pathlib import Path\n"
        "from scriptorium.operations.restore import restore\n"
        "from scriptorium.requests import RestoreRequest\n"
        "from scriptorium.settings import load\n"
        "from scriptorium.sources.postgres.dump import pieces as postgres_pieces\n"
        "whole = postgres_pieces._append\ncount = iter(range(99))\n"
        "def append(*given):\n    next(count) < 2 or os.kill(os.getpid(), 9)\n    whole(*given)\n"
        "postgres_pieces._append = append\n"
        f"settings = load(Path({str(tmp_path / 'scriptorium.toml')!r}), {{}})\n"
        "restore(settings, RestoreRequest(reference='latest', safety=False))\n"
    )
    assert subprocess.run([sys.executable, "-c", child]).returncode == -9
    (left,) = tmp_path.glob("scriptorium-restore-*")
    assert list(left.rglob("dump.partial")) and list(left.rglob("dump.00000*"))
    assert ask(url, "SELECT count(*) FROM items WHERE title <> 'defaced'") == [(0,)]
    assert (
        restore(settings, RestoreRequest(reference="latest", safety=False)).restored.tables == part_of(manifest).tables
    )
    assert not left.exists()


def test_the_metadata_lists_a_streamed_source(backed_up, tmp_path):
    _, settings, manifest = backed_up
    (copy,) = Catalog(settings).find("latest").copies
    tar = ["tar", "-xOf", str(tmp_path / "backups" / copy.key), "backup_metadata.json"]
    metadata = json.loads(subprocess.run(tar, capture_output=True, check=True).stdout)
    assert metadata["tools"]["postgres"] == part_of(manifest).engine_version
    row = next(row for row in metadata["sources"] if row["source"] == "postgres")
    assert row["method"].endswith(", streamed") and row["trees"][0]["at"] == "postgres"
