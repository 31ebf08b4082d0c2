"""Safety backups of data that another backup would refuse, and the plan's rows about them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from survey_counts import counted

from scriptorium.errors import RestoreFailed, SourceDamaged
from scriptorium.model import Manifest
from scriptorium.operations.backup import backup
from scriptorium.operations.decided import decided
from scriptorium.operations.restore import plan_restore, restore
from scriptorium.requests import BackupRequest, RestoreRequest
from scriptorium.settings import Settings
from scriptorium.sources import FilesSource, KuzuSource
from scriptorium.words import Tier


def take(settings: Settings, tier: Tier) -> Manifest:
    return backup(settings, BackupRequest(tier=tier)).manifest


def safety(settings: Settings, **how: bool) -> Any:
    plan = plan_restore(settings, RestoreRequest(reference="latest", **how), thorough=True)
    return next((row for row in plan.preflight.rows if row.what == "safety backup"), None)


def test_what_lacks_files_is_saved_before_the_restore_that_brings_them_back(
    tmp_path: Path, new_place: Callable[..., Any]
) -> None:
    place = new_place(tmp_path / "place", books=2)
    place.execute("ALTER TABLE Book ADD cover_url STRING", "MATCH (b:Book {id: '1'}) SET b.cover_url = '/covers/a.jpg'")
    text = place.config.read_text()
    place.config.write_text(text.replace('home = "library"', 'home = "library"\nmissing_files = "error"'))
    take(place.settings, Tier.MANUAL)
    (place.home / "data/covers/a.jpg").unlink()
    with pytest.raises(SourceDamaged, match=r"a\.jpg"):
        take(place.settings, Tier.MANUAL)
    manifest = take(place.settings, Tier.BEFORE_RESTORE)
    assert [check.first for check in manifest.checks if not check.good] == [("data/covers/a.jpg",)]


def test_the_plan_reports_whether_the_living_data_can_be_saved_first(
    tmp_path: Path, new_place: Callable[..., Any]
) -> None:
    place = new_place(tmp_path / "place", books=2)
    take(place.settings, Tier.MANUAL)
    assert safety(place.settings).found == "is taken first" and safety(place.settings, safety=False) is None
    place.database.write_bytes(b"KUZU" + bytes(8000))
    damaged = safety(place.settings)
    assert isinstance(damaged.trouble, RestoreFailed) and "--no-safety" in damaged.trouble.hint
    place.database.unlink()
    gone = safety(place.settings)
    assert isinstance(gone.trouble, RestoreFailed) and "bibliotheca.db" in str(gone.trouble)
    assert not list((place.settings.workspace_folder / "staging").iterdir()), "what was tried is put away"


@pytest.fixture
def surveys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that were surveyed, once for each time."""
    return counted(monkeypatch, FilesSource, KuzuSource)


def test_a_restore_in_place_surveys_each_source_at_most_twice(
    tmp_path: Path, new_place: Callable[..., Any], surveys: list[str]
) -> None:
    """Once for its plan, once more for the safety backup: the living data may have grown between the two."""
    place = new_place(tmp_path / "place", books=2)
    take(place.settings, Tier.MANUAL)
    assert sorted(surveys) == sorted({*surveys}), "once for a backup"
    surveys.clear()
    plan = plan_restore(place.settings, RestoreRequest(reference="latest"))
    with decided(plan.request, plan):  # as the command line does it: what was shown is what is done
        done = restore(place.settings, plan.request)
    assert done.safety is not None and done.safety.tier is Tier.BEFORE_RESTORE and done.backup == plan.backup
    assert done.preflight == plan.preflight.rows
    assert {surveys.count(name) for name in surveys} == {2}
    surveys.clear()
    restore(place.settings, RestoreRequest(reference=plan.backup, path=tmp_path / "folder"))
    restore(place.settings, RestoreRequest(reference=plan.backup, safety=False))
    assert surveys == []


def test_a_plan_that_waited_long_for_its_answer_is_made_anew(
    tmp_path: Path, new_place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = new_place(tmp_path / "place", books=2)
    take(place.settings, Tier.MANUAL)
    plan = plan_restore(place.settings, RestoreRequest(reference="latest"))
    with decided(plan.request, plan):
        assert plan_restore(place.settings, plan.request) is plan
        assert plan_restore(place.settings, RestoreRequest(reference="latest", safety=False)) is not plan
        monkeypatch.setattr(time, "monotonic", lambda: plan.began + 301)
        assert plan_restore(place.settings, plan.request) is not plan
    assert plan_restore(place.settings, plan.request) is not plan
