"""The figures of ``stats``: what the contract names, over every library and store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from scriptorium.catalog import begin_run
from scriptorium.model import Annotations, Proof, Verification
from scriptorium.monitoring.statistics import stats
from scriptorium.report.statistics import statistics_document
from scriptorium.words import BackupType

HOUR = timedelta(hours=1)
WHEN = datetime(2026, 2, 1, tzinfo=UTC)
Shelf = Any  # the fixture's class; test modules cannot import from conftest


def figures(shelf: Shelf, library: str | None = None) -> Any:
    return statistics_document(stats(shelf.settings, library))


def test_nothing_is_nothing(shelf: Shelf) -> None:
    found = figures(shelf)
    assert found["total_backups"] == found["total_size_bytes"] == found["damaged"] == 0
    assert found["oldest_backup"] is found["newest_backup"] is found["last_success"] is found["last_proof"] is None
    assert found["backup_types"] == {} and set(found["by_library"]) == {"lib", "other"}


def test_figures_are_of_copies_that_are_there(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    proof = Proof(WHEN, "local", True, 1.5, 1.0, 1, 1, 0, 0)
    old = shelf.put(HOUR, "local", "second", content=b"x" * 600_000, annotations=Annotations(proof=proof))
    good = shelf.put(2 * HOUR, type=BackupType.CONFIG, content=b"x" * 500_000)
    bad = shelf.put(3 * HOUR, library="other", annotations=Annotations(verification=Verification(WHEN, False, ("x",))))
    begin_run(shelf.settings, shelf.put(4 * HOUR, library="other"))
    found = figures(shelf)
    assert found["total_backups"] == 4 and found["backup_types"] == {"full": 3, "config": 1}
    assert found["total_size_bytes"] == 1_700_020 and found["total_size_mb"] == 1.7
    assert found["oldest_backup"] == old.created_at.isoformat() and found["damaged"] == 1
    assert found["last_proof"] == WHEN.isoformat()
    drill = {"at": WHEN.isoformat(), "backup": old.id, "store": "local", "verdict": "proven", "recovery_seconds": 1.5}
    assert found["last_drill"] == found["by_library"]["lib"]["last_drill"] == drill
    assert found["by_library"]["other"]["last_drill"] is None and found["unrecorded"] == 0
    lib = found["by_library"]["lib"]
    assert (lib["total_backups"], lib["last_success"]) == (2, good.created_at.isoformat())
    only = figures(shelf, "other")
    assert set(only["by_library"]) == {"other"} and only["total_backups"] == 2 and only["last_proof"] is None
    assert only["oldest_backup"] == bad.created_at.isoformat()
    assert found["storage"]["second"]["kind"] == "local" and found["storage"]["second"]["used"] > 600_000
    assert found["storage"]["local"]["free"] > 0


def test_a_store_that_does_not_answer_is_shown_as_such(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    shelf.put(HOUR)
    (shelf.folder / "second").write_text("not a folder")
    found = figures(shelf)
    assert found["total_backups"] == 1 and found["storage"]["second"]["used"] is None
    assert "does not answer" in found["storage"]["second"]["error"]
