"""What a safety backup is taken of that another backup would refuse, and what a plan knows of it beforehand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.errors import RestoreFailed, SourceDamaged
from scriptorium.model import Manifest, Tier
from scriptorium.operations.backup import backup
from scriptorium.operations.restore import place_restore, plan_restore
from scriptorium.requests import BackupRequest
from scriptorium.settings import Settings


def take(settings: Settings, tier: Tier) -> Manifest:
    return backup(settings, BackupRequest(tier=tier)).manifest


def safety(settings: Settings, **how: bool) -> Any:
    plan = plan_restore(settings, place_restore(settings, "latest", **how), thorough=True)
    return next((row for row in plan.rows if row.what == "safety backup"), None)


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


def test_the_plan_says_whether_what_lives_can_be_saved_first(tmp_path: Path, new_place: Callable[..., Any]) -> None:
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
