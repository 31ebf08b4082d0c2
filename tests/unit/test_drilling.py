"""Drills of files alone: what was unpacked is read back, and what no verdict is about."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import real_backup
import taking_home

from scriptorium import drilling
from scriptorium.archive import ledger
from scriptorium.catalog import Catalog
from scriptorium.drilling import place_drill, run_drill
from scriptorium.model import Proof, Status
from scriptorium.settings import Settings

home, tmp_path = taking_home.home, taking_home.tmp_path  # fixtures, for these tests alone


def drilled(settings: Settings) -> Proof:
    return run_drill(settings, place_drill(settings, "latest"))


@pytest.mark.parametrize("listed", ["in the manifest", "in the archive"])
def test_what_the_disk_does_not_give_back_is_no_proof(
    home: taking_home.Home, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    """The archive is sound, and was unpacked as it is: a bit turns between the writing and the reading."""
    if listed == "in the archive":
        monkeypatch.setattr(ledger, "INLINE", 2)
    settings = home.settings
    real_backup.take(settings, datetime.now(UTC))
    good = drilled(settings)
    assert good.proven and (good.files, good.bytes) == (3, 50_000 + len("notes") + len("x = 1"))

    def rotten(point: str) -> None:
        if point == "drill.unpacked":
            (cover,) = home.folder.rglob("restored/data/covers/a.jpg")
            data = bytearray(cover.read_bytes())
            data[1000] ^= 1
            cover.write_bytes(data)

    monkeypatch.setattr(drilling, "reach", rotten)
    proof = drilled(settings)
    assert not proof.proven and any("different content: data/covers/a.jpg" in one for one in proof.differences)
    assert Catalog(settings).backups()[0].copies[0].status is Status.DAMAGED and home.staging() == []
