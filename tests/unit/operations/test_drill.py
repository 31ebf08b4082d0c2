"""Drills of files alone: unpacked files are read back; failures that are no verdict on the backup."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import backup_setup
import pytest
import real_backup

from scriptorium import wording
from scriptorium.catalog import Catalog
from scriptorium.members import ledger
from scriptorium.model import Proof
from scriptorium.operations import drill
from scriptorium.report.backups import backup_row
from scriptorium.report.drill import proof_document, proof_fields
from scriptorium.requests import DrillRequest
from scriptorium.settings import Settings
from scriptorium.words import Status

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests


def drilled(settings: Settings) -> Proof:
    return drill.drill(settings, DrillRequest()).proof


@pytest.mark.parametrize("listed", ["in the manifest", "in the archive"])
def test_what_the_disk_does_not_give_back_is_no_proof(
    home: backup_setup.Home, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    """The archive is sound, and was unpacked as it is: a bit turns between the writing and the reading."""
    if listed == "in the archive":
        monkeypatch.setattr(ledger, "INLINE", 2)
    settings = home.settings
    real_backup.take(settings, datetime.now(UTC))
    good = drilled(settings)
    assert good.proven and (good.files, good.bytes) == (3, 50_000 + len("notes") + len("x = 1"))

    row = backup_row(Catalog(settings).find("latest"), datetime.now(UTC))
    assert row["Recovery"] == wording.duration(good.seconds) and row["Drilled (UTC)"] == wording.utc(good.at)

    def rotten(point: str) -> None:
        if point == "drill.unpacked":
            (cover,) = home.folder.rglob("restored/data/covers/a.jpg")
            data = bytearray(cover.read_bytes())
            data[1000] ^= 1
            cover.write_bytes(data)

    monkeypatch.setattr(drill, "reach", rotten)
    proof = drilled(settings)
    assert not proof.proven and any("different content: data/covers/a.jpg" in one for one in proof.differences)
    assert Catalog(settings).backups()[0].copies[0].status is Status.DAMAGED and home.staging() == []


@pytest.fixture
def read_only(home: backup_setup.Home) -> Iterator[Callable[[Path], None]]:
    """Makes a folder unwritable for everybody, also for root."""
    mounted = []

    def mount(folder: Path) -> None:
        if subprocess.run(["mount", "--bind", folder, folder], check=False, capture_output=True).returncode:
            pytest.skip("this machine does not allow mounting")
        mounted.append(folder)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def test_the_status_of_a_copy_in_a_read_only_store_is_known(
    home: backup_setup.Home, read_only: Callable[[Path], None]
) -> None:
    settings = home.settings
    real_backup.take(settings, datetime.now(UTC))
    read_only(home.folder / "second")
    proof = drill.drill(settings, DrillRequest(store="second")).proof
    assert proof.proven and proof.files == 3
    assert "second" in proof.unkept and "mounted read-only" in proof.unkept
    assert proof_fields(proof)["not kept"] == proof.unkept and proof_document(proof)["kept"] is False
    assert Catalog(settings).find("latest").copies[1].drilled_at is None
    kept = drilled(settings)
    assert kept.store == "local" and kept.unkept == "" and "not kept" not in proof_fields(kept)
