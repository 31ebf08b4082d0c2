"""Every form that Bibliotheca's own backups had: adopted, listed, verified, restored, compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import NotFound
from scriptorium.operations.drill import drill
from scriptorium.operations.restore import restore
from scriptorium.operations.verify import verify_stored
from scriptorium.requests import DrillRequest, RestoreRequest
from scriptorium.results import Adopted
from scriptorium.words import BackupType, Status, Tier
from tests.shared.adoption import adopt

SIMPLE = {
    "simple_database_backup": BackupType.DATABASE,
    "simple_database_backup_with_images": BackupType.DATA,
    "simple_database_backup_with_images_and_settings": BackupType.FULL,
    "pre_restore_snapshot": BackupType.DATABASE,
    "pre_restore_snapshot_full": BackupType.FULL,
    "beta": BackupType.DATABASE,
}
OLD = {
    "full": BackupType.FULL,
    "data_only": BackupType.DATA,
    "kuzu_only": BackupType.DATABASE,
    "config_only": BackupType.CONFIG,
}
Files = Callable[[Path], dict[str, bytes]]


def restored(app: Any, adopted: Adopted, files_of: Files) -> tuple[dict[str, bytes], Any]:
    """List, verify, restore to a folder; returns its files without the database, and the tables."""
    settings = app.place.settings
    (listed,) = Catalog(settings).backups()
    assert listed.id == adopted.backup.id and listed.status is Status.VERIFIED and listed.tier is Tier.MANUAL
    assert verify_stored(settings, listed.id, listed.copies[0]).sound
    into = app.place.folder / "restored"
    done = restore(settings, RestoreRequest(reference=listed.id, path=into)).restored
    return files_of(into), done.tables


@pytest.mark.parametrize("kind", SIMPLE)
def test_simple_backups(app: Any, kind: str, files_of: Files) -> None:
    archive = app.old.simple(kind)
    adopted = adopt(app.place.settings, archive)
    assert adopted.backup.type is SIMPLE[kind]
    files, tables = restored(app, adopted, files_of)
    assert tables == app.tables
    assert files.pop("data/kuzu/bibliotheca.db")
    assert files == app.old.expected
    message = "\n".join(adopted.warnings)
    assert "while it was running: it may not be one consistent state" in message and "no .wal came" in message
    assert adopted.backup.name.startswith("before the flood") and "adopted from before the flood" in (
        adopted.backup.description
    )
    if kind == "beta":
        assert (
            "no backup_metadata.json" in message
            and "authors.csv, books.csv" in message
            and "time of the file" in message
        )
    else:
        assert adopted.backup.name == "before the flood" and kind in adopted.backup.description


@pytest.mark.parametrize("kind", OLD)
def test_the_full_system(app: Any, kind: str, files_of: Files) -> None:
    """With a database of one file: the last versions of that system had Kuzu 0.11."""
    adopted = adopt(app.place.settings, app.old.full(kind))
    assert adopted.backup.type is OLD[kind] and adopted.backup.name == f"{kind}_20250714_053926"
    files, tables = restored(app, adopted, files_of)
    if kind == "config_only":
        assert not tables and "it contains no database" in adopted.warnings
    else:
        assert tables == app.tables and files.pop("data/kuzu/bibliotheca.db")
    assert files == app.old.expected
    if kind in ("full", "config_only"):
        assert any("left out" in warning and "pytest.ini" in warning for warning in adopted.warnings)
        env = app.place.folder / "restored" / ".env"
        assert env.stat().st_mode & 0o777 == 0o600 and env.stat().st_mtime == (app.place.home / ".env").stat().st_mtime


@pytest.mark.parametrize("early", [False, True], ids=["data/kuzu", "kuzu_db"])
def test_a_database_of_the_folder_layout_needs_its_engine(
    app: Any, folder_database: Path, files_of: Files, early: bool
) -> None:
    adopted = adopt(app.place.settings, app.old.full("kuzu_only", early=early, database=folder_database))
    message = "\n".join(adopted.warnings)
    assert "could not be opened" in message and "storage version 38" in message and "kuzu==0.10.0" in message
    assert "kept as it was, without fingerprints of its tables" in message and "engine =" in message
    assert ".wal is missing" in message
    files, tables = restored(app, adopted, files_of)
    assert not tables
    kept = {f"data/kuzu/bibliotheca.db/{path.name}" for path in folder_database.iterdir() if path.name[0] != "."}
    assert set(files) == kept
    assert files["data/kuzu/bibliotheca.db/data.kz"] == (folder_database / "data.kz").read_bytes()


def test_with_its_engine_it_is_opened(app: Any, folder_database: Path, old_kuzu: Path, files_of: Files) -> None:
    config = app.place.config
    config.write_text(
        config.read_text().replace('home = "library"', f'home = "library"\nkuzu = {{ engine = "{old_kuzu}" }}')
    )
    adopted = adopt(app.place.settings, app.old.full("kuzu_only", database=folder_database))
    assert not any("could not be opened" in warning for warning in adopted.warnings)
    files, tables = restored(app, adopted, files_of)
    assert tables["Book"].rows == 40 and "data/kuzu/bibliotheca.db/catalog.kz" in files


def test_a_wal_is_replayed(app: Any, files_of: Files, lab: Any) -> None:
    """A database that was copied with its WAL holds what the WAL holds."""
    import subprocess
    import sys

    script = (
        "import kuzu, os, sys; d = kuzu.Database(sys.argv[1]); c = kuzu.Connection(d);"
        "c.execute(\"CREATE (:Book {id: 'last', title: 'Last', pages: 1})\"); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(app.place.database)], check=True)
    assert Path(f"{app.place.database}.wal").stat().st_size
    archive = app.old.simple("simple_database_backup_with_images_and_settings")
    adopted = adopt(app.place.settings, archive)
    assert not any(".wal" in warning for warning in adopted.warnings)
    files, tables = restored(app, adopted, files_of)
    assert tables["Book"].rows == app.tables["Book"].rows + 1
    assert [path for path in files if path.endswith(".wal")] == ["data/kuzu/bibliotheca.db.wal"]


def test_in_place_it_leaves_alone_what_did_not_come(app: Any) -> None:
    """The old backup has covers and .env; config.py, user settings and the like are not in it."""
    settings, home = app.place.settings, app.place.home
    (home / "data" / "user_settings").mkdir()
    (home / "data" / "user_settings" / "1.json").write_text("{}")
    adopted = adopt(settings, app.old.simple("simple_database_backup_with_images_and_settings"))
    assert any("does not touch the library's other files" in warning for warning in adopted.warnings)
    app.place.execute("MATCH (b:Book) DETACH DELETE b")
    (home / "data" / "covers" / "a.jpg").write_bytes(b"worse")
    before = (home / "config.py").read_bytes()
    done = restore(settings, RestoreRequest(reference=adopted.backup.id, safety=False)).restored
    assert done.tables == app.tables
    assert (home / "data" / "covers" / "a.jpg").read_bytes() == app.old.expected["data/covers/a.jpg"]
    assert (home / "config.py").read_bytes() == before and (home / "data" / "user_settings" / "1.json").exists()


def test_a_database_that_was_not_opened_is_never_put_over_a_living_one(app: Any, folder_database: Path) -> None:
    settings = app.place.settings
    adopted = adopt(settings, app.old.full("kuzu_only", database=folder_database))
    before = app.place.database.read_bytes()
    with pytest.raises(NotFound, match="no such source") as refused:
        restore(settings, RestoreRequest(reference=adopted.backup.id, safety=False))
    assert "--restore-path" in refused.value.hint and app.place.database.read_bytes() == before
    proof = drill(settings, DrillRequest(reference=adopted.backup.id)).proof
    assert proof.verdict == "not comparable" and proof.files and not proof.tables, "plain files came, as they were"
    assert "has no fingerprints of this database" in proof.uncompared[0]


def test_a_drill_proves_it(app: Any) -> None:
    settings = app.place.settings
    adopted = adopt(settings, app.old.simple("simple_database_backup_with_images_and_settings"))
    proof = drill(settings, DrillRequest(reference=adopted.backup.id)).proof
    assert proof.proven and proof.rows == sum(table.rows for table in app.tables.values())
    assert (
        restore(
            settings, RestoreRequest(reference=adopted.backup.id, path=app.place.folder / "rebuilt", rebuild=True)
        ).restored.tables
        == app.tables
    ), "from its logical export too"
