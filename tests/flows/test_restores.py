"""The flows restore and undo: into a folder, in place, in parts, with and without a healthy application."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

import pytest
from prefect_runs import artifact, last_run
from survey_counts import counted
from typer.testing import CliRunner

from flows.backup import backup
from flows.restore import restore, undo
from scriptorium.catalog import Catalog
from scriptorium.cli import main
from scriptorium.errors import (
    NotFound,
    RestoreFailed,
)
from scriptorium.restore import Preflight
from scriptorium.sources import FilesSource, KuzuSource


def health(chosen: Any, table: str) -> None:
    text = chosen.config.read_text().replace('home = "library"', f'home = "library"\nhealth = {table}')
    chosen.config.write_text(text)


def test_restore_and_undo_report_a_safety_backup_that_lacks_a_file(
    chosen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, real = backup(library="bibliotheca"), os.open

    def open_(path: Any, flags: int, *arguments: Any, **given: Any) -> int:
        if os.fsencode(path).endswith(b"a.jpg") and flags & os.O_ACCMODE == os.O_RDONLY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *arguments, **given)

    monkeypatch.setattr(os, "open", open_)
    (warning,) = restore(whole.id, library="bibliotheca").restored.lacking
    assert "is degraded: it lacks 1 that could not be read when it was taken (data/covers/a.jpg)" in warning
    assert warning in artifact("restore-bibliotheca")
    undo(library="bibliotheca")
    assert "is degraded: it lacks 1" in artifact("undo-bibliotheca")


def test_restore_into_a_folder_is_equal(chosen: Any) -> None:
    done = backup()
    restored = restore(reference="latest", path=str(chosen.folder / "out")).restored
    assert restored.tables["Book"].rows == 50
    assert (chosen.folder / "out" / ".env").read_text() == (chosen.home / ".env").read_text()
    assert (chosen.folder / "out" / "data" / "covers" / "sub" / "b.jpg").exists()
    assert not (chosen.folder / "out" / "data" / "logs").exists()
    run, _ = last_run("restore")
    assert done.id in artifact("restore-bibliotheca") and run.name.startswith("restore latest to")


def test_restore_in_place_takes_a_safety_backup_and_replaces(chosen: Any) -> None:
    done = backup()
    chosen.execute("MATCH (b:Book) DETACH DELETE b")
    (chosen.home / "data" / "covers" / "a.jpg").unlink()
    (chosen.home / "data" / "covers" / "new.jpg").write_bytes(b"added later")
    (chosen.home / ".env").write_text("SECRET_KEY=changed\n")
    restore(reference=done.id)
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[50]]
    assert (chosen.home / "data" / "covers" / "a.jpg").exists()
    assert not (chosen.home / "data" / "covers" / "new.jpg").exists()
    assert (chosen.home / "data" / "logs" / "app.log").read_text() == "volatile"
    assert "very-secret-value" in (chosen.home / ".env").read_text()
    safety = next(one for one in Catalog(chosen.settings).backups() if one.tier == "before-restore")
    restore(reference=safety.id, path=str(chosen.folder / "before"))
    assert (chosen.folder / "before" / "data" / "covers" / "new.jpg").read_bytes() == b"added later"
    assert all((found / "former").is_dir() for found in chosen.home.rglob(".scriptorium-restore-*")), "kept for undo"


def test_the_plan_that_a_command_has_shown_is_the_one_that_its_flow_carries_out(
    chosen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made once, and every source is surveyed twice: for the plan and for the safety backup."""
    done = backup(library="bibliotheca")
    surveys = counted(monkeypatch, FilesSource, KuzuSource)
    monkeypatch.setattr("scriptorium.cli.restore.flow_runs", contextlib.nullcontext)  # the server of these tests runs
    plans: list[str] = []
    real = Preflight.require

    def require(preflight: Preflight) -> None:
        plans.append(str(id(preflight)))
        real(preflight)

    monkeypatch.setattr(Preflight, "require", require)
    result = CliRunner().invoke(main.app, ["restore", done.id, "--yes"])
    assert result.exit_code == 0, result.output
    assert len(plans) >= 2 and len({*plans}) == 1, "the command and the flow look at the same plan"
    assert {surveys.count(name) for name in surveys} == {2}


def test_undo_puts_back_what_a_restore_replaced(chosen: Any) -> None:
    done = backup()
    chosen.execute("CREATE (:Book {id: 'late', title: 'Added later', pages: 1})")
    (chosen.home / "config.py").write_text("DEBUG = 'changed later'\n")
    restore(reference=done.id)
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[50]]
    undo()
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[51]]
    assert "changed later" in (chosen.home / "config.py").read_text()
    assert not list(chosen.home.rglob(".scriptorium-restore-*"))
    with pytest.raises(NotFound, match="no previous data"):
        undo()


def test_a_restore_after_which_the_application_is_not_well_is_undone(chosen: Any) -> None:
    done = backup()
    chosen.execute("CREATE (:Book {id: 'late', title: 'Added later', pages: 1})")
    health(chosen, '{ command = ["false"], within = 0.2 }')
    with pytest.raises(RestoreFailed, match="does not work"):
        restore(reference=done.id)
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[51]]
    assert not list(chosen.home.rglob(".scriptorium-restore-*"))


def test_a_restore_with_a_healthy_application_is_kept(chosen: Any) -> None:
    done = backup()
    chosen.execute("CREATE (:Book {id: 'late', title: 'Added later', pages: 1})")
    health(chosen, '{ command = ["true"], within = 5 }')
    restore(reference=done.id)
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[50]]


def test_a_database_too_broken_to_save_is_restored_without_a_safety_backup(chosen: Any) -> None:
    done = backup()
    chosen.database.write_bytes(b"KUZU" + bytes(8000))
    with pytest.raises(RestoreFailed, match="could not be backed up first"):
        restore(reference=done.id)
    restore(reference=done.id, safety=False)
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[50]]


def test_a_new_machine_has_nothing_to_save_first(chosen: Any) -> None:
    import shutil

    done = backup()
    shutil.rmtree(chosen.home)
    restore(reference=done.id)
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[50]]
    assert (chosen.home / ".env").exists()


def test_a_partial_restore_in_place_leaves_the_rest_alone(chosen: Any) -> None:
    done = backup()
    (chosen.home / "data" / "covers" / "a.jpg").write_bytes(b"spoiled")
    (chosen.home / "data" / "covers" / "new.jpg").write_bytes(b"new")
    (chosen.home / "data" / "uploads" / "notes.txt").write_text("changed")
    restore(reference=done.id, only=["data/covers/*"])
    assert (chosen.home / "data" / "covers" / "a.jpg").stat().st_size == 2000
    assert (chosen.home / "data" / "covers" / "new.jpg").read_bytes() == b"new"
    assert (chosen.home / "data" / "uploads" / "notes.txt").read_text() == "changed"


def test_only_the_database_by_the_name_of_its_source(chosen: Any) -> None:
    done = backup()
    chosen.execute("MATCH (b:Book) DETACH DELETE b")
    (chosen.home / "data" / "uploads" / "notes.txt").write_text("changed")
    restore(reference=done.id, only=["kuzu"])
    assert chosen.execute("MATCH (b:Book) RETURN count(*)") == [[50]]
    assert (chosen.home / "data" / "uploads" / "notes.txt").read_text() == "changed"
