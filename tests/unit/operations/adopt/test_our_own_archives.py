"""Our own archives that lie outside every store: taken in as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, NotFound, UsageError
from scriptorium.manifest import loads
from scriptorium.operations.restore import plan_restore, restore
from scriptorium.operations.verify import verify_stored
from scriptorium.requests import RestoreRequest
from scriptorium.words import Status
from tests.shared.adoption import adopt

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "version-1" / "bibliotheca"
ARCHIVES = ["full_20260301_020304.tar.gz", "full_20260302_020304.tar.zst", "full_20260303_020304.tar"]


@pytest.fixture
def lying(app: Any) -> Callable[..., Path]:
    """A golden archive, without its manifest, in a folder of the user's."""

    def lie(name: str, under: str = "") -> Path:
        return Path(shutil.copy(GOLDEN / name, app.old.folder / (under or name)))

    return lie


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("under", ["", "my copy.bin"])
def test_it_is_what_it_was(
    app: Any, lying: Callable[..., Path], fingerprint: Callable[[Path], object], name: str, under: str
) -> None:
    settings, file = app.place.settings, lying(name, under)
    before = fingerprint(file)
    adopted = adopt(settings, file)
    assert fingerprint(file) == before
    golden = loads((GOLDEN / f"{name}.json").read_bytes())
    (copy,) = adopted.backup.copies
    assert Catalog(settings).manifest(copy) == golden and copy.key == f"bibliotheca/{name}"
    assert adopted.backup.id == golden.id and adopted.backup.status is Status.VERIFIED
    assert verify_stored(settings, golden.id, copy).sound
    with pytest.raises(UsageError, match=f"already adopted as {golden.id}"):
        adopt(settings, file)


def test_another_archive_has_the_name(app: Any, lying: Callable[..., Path]) -> None:
    stored = app.place.backups / "bibliotheca" / ARCHIVES[0]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"something else")
    adopted = adopt(app.place.settings, lying(ARCHIVES[0]))
    assert adopted.backup.copies[0].key == "bibliotheca/full_20260301_020304-2.tar.gz"
    assert verify_stored(app.place.settings, adopted.backup.id, adopted.backup.copies[0]).sound
    assert stored.read_bytes() == b"something else"


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("damage", ["short", "flipped"])
def test_a_damaged_one_is_refused(app: Any, lying: Callable[..., Path], name: str, damage: str) -> None:
    file = lying(name)
    data = bytearray(file.read_bytes())
    data[len(data) // 4] ^= 0x10
    file.write_bytes(data if damage == "flipped" else data[: len(data) * 3 // 4])
    with pytest.raises(DamageFound):
        adopt(app.place.settings, file)
    assert not app.left() and not Catalog(app.place.settings).backups()


def test_it_stays_a_backup_of_its_library(app: Any, lying: Callable[..., Path]) -> None:
    config, file = app.place.config, lying(ARCHIVES[0])
    more = '[libraries.other]\npreset = "bibliotheca"\nhome = "library"\n\n'
    config.write_text(more + config.read_text())
    with pytest.raises(UsageError, match="a backup of 'bibliotheca'"):
        adopt(app.place.settings, file, library="other")
    config.write_text(config.read_text().replace("libraries.bibliotheca", "libraries.books"))
    with pytest.raises(NotFound, match="no such library: bibliotheca"):
        adopt(app.place.settings, file)
    assert not app.left()


def test_an_archive_whose_manifest_is_damaged_is_found_and_adopted_again(app: Any, lying: Callable[..., Path]) -> None:
    settings = app.place.settings
    was = adopt(settings, lying(ARCHIVES[0])).backup
    stored = Path(settings.store("local").location(was.copies[0].key))
    manifest = stored.with_name(f"{stored.name}.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"host": "', b'"host": "x', 1))
    for reference in (was.id, was.name, stored.name):
        with pytest.raises(DamageFound, match="every copy of this backup is damaged") as caught:
            plan_restore(settings, RestoreRequest(reference=reference, path=app.place.folder / "out"))
        assert was.id in caught.value.hint and f"catalog adopt {stored}" in caught.value.hint
    again = adopt(settings, stored)
    assert again.backup.id == was.id and Catalog(settings).find(was.id).status is Status.VERIFIED
    assert restore(settings, RestoreRequest(reference=was.id, path=app.place.folder / "out")).restored.files
