"""How far an old archive can be trusted, and which warnings it gets: times, damage, databases that cannot be opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, LibraryBusy, NotFound, PermanentError, UsageError
from scriptorium.operations.adopt import adopt as adopt_each
from scriptorium.operations.prune import delete
from scriptorium.operations.restore import restore
from scriptorium.operations.verify import verify_stored
from scriptorium.requests import AdoptRequest, DeleteRequest, RestoreRequest
from tests.shared.adoption import adopt

NOW_KIND = "simple_database_backup_with_images_and_settings"


@pytest.mark.parametrize(
    ("here", "message", "created", "warned"),
    [
        ("Europe/Berlin", "2025-07-14T05:39:26.502608", "2025-07-14T03:39:26", "CEST (UTC+0200)"),
        ("Europe/Berlin", "2025-01-14T05:39:26", "2025-01-14T04:39:26", "CET (UTC+0100)"),
        ("America/New_York", "2025-07-14T05:39:26.502608", "2025-07-14T09:39:26", "EDT (UTC-0400)"),
        ("Asia/Kolkata", "2025-07-14T00:00:00", "2025-07-13T18:30:00", "UTC+0530"),
        ("Europe/Berlin", "2025-07-14T05:39:26+00:00", "2025-07-14T05:39:26", ""),
        ("Europe/Berlin", "2025-07-14T05:39:26Z", "2025-07-14T05:39:26", ""),
        ("Europe/Berlin", "2999-01-01T00:00:00", "2025-08-01T10:00:00", "in the future"),
        ("Europe/Berlin", "0001-01-01T00:00:00", "2025-08-01T10:00:00", "not known"),
        ("Europe/Berlin", "yesterday", "2025-08-01T10:00:00", "not known"),
        ("Europe/Berlin", None, "2025-08-01T10:00:00", "it states no time"),
        ("Europe/Berlin", 17, "2025-08-01T10:00:00", "it states no time"),
    ],
)
def test_when_it_was_taken(
    app: Any, zone: Callable[[str], None], here: str, message: object, created: str, warned: str
) -> None:
    """The time of its clock has no zone: this machine's zone is used, with a warning. The file's time is used last."""
    zone(here)
    archive = app.old.zip("x.zip", {"config/.env": b"A=1"}, {"created_at": message, "backup_type": "x"})
    os.utime(archive, (1754042400, 1754042400))  # 2025-08-01 10:00 UTC
    adopted = adopt(app.place.settings, archive)
    assert adopted.backup.created_at == datetime.fromisoformat(created).replace(tzinfo=UTC)
    times = [warning for warning in adopted.warnings if "taken" in warning and "by Bibliotheca" not in warning]
    assert len(times) == bool(warned) and (not warned or warned in times[0])
    stamp = adopted.backup.created_at.strftime("%Y%m%d_%H%M%S")
    assert adopted.backup.copies[0].key == f"bibliotheca/config_{stamp}.tar.gz"


def test_the_index_gives_name_and_description(app: Any) -> None:
    archive = app.old.zip(
        "x_0f0e0d0c.zip", {"config/.env": b"A=1"}, app.old.metadata(NOW_KIND, reason="scheduled_daily")
    )
    app.old.index(archive, name="Before\nthe\x00 flood", description="all fine")
    backup = adopt(app.place.settings, archive).backup
    assert backup.name == "Beforethe flood"
    assert backup.description.startswith(f"all fine; {NOW_KIND}, scheduled_daily; adopted from x_0f0e0d0c.zip (sha256 ")


@pytest.mark.parametrize("index", [None, b"", b"[]", b'{"a": 1}', b"[" * 100_000, b"\xff\xfe"])
def test_a_lost_or_broken_index_does_not_matter(app: Any, index: bytes | None) -> None:
    """Bibliotheca itself cannot restore a backup whose index is lost."""
    archive = app.old.zip("my backup_0f0e0d0c.zip", {"config/.env": b"A=1"}, app.old.metadata(NOW_KIND))
    if index is not None:
        archive.with_name("simple_backup_index.json").write_bytes(index)
    assert adopt(app.place.settings, archive).backup.name == "my backup"


@pytest.mark.parametrize("metadata", [b"", b"[]", b"not json", b"[" * 100_000, b'{"backup_type": 7, "backup_id": {}}'])
def test_metadata_without_information(app: Any, metadata: bytes) -> None:
    archive = app.old.zip("x.zip", {"config/.env": b"A=1", "backup_metadata.json": metadata}, None)
    adopted = adopt(app.place.settings, archive)
    assert adopted.backup.name == "x" and "\n".join(adopted.warnings).count("it is not known when it was taken") == 1


def test_the_same_file_twice(app: Any) -> None:
    settings = app.place.settings
    archive = app.old.zip("x.zip", {"config/.env": b"A=1"}, app.old.metadata(NOW_KIND))
    first = adopt(settings, archive).backup
    again = archive.rename(archive.with_name("another name.zip"))
    with pytest.raises(UsageError, match=f"already adopted as {first.id}"):
        adopt(settings, again)
    assert [one.id for one in Catalog(settings).backups()] == [first.id]
    delete(settings, DeleteRequest(reference=first.id))
    assert adopt(settings, again).backup.id != first.id


def test_a_damaged_copy_does_not_count_as_adopted(app: Any) -> None:
    settings = app.place.settings
    archive = app.old.zip("x.zip", {"config/.env": b"A=1"}, app.old.metadata(NOW_KIND))
    first = adopt(settings, archive).backup
    stored = app.place.backups / first.copies[0].key
    stored.write_bytes(stored.read_bytes()[:-20])
    second = adopt(settings, archive).backup
    assert second.copies[0].key == first.copies[0].key.replace(".tar.gz", "-2.tar.gz")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_cut_short(app: Any, form: str, share: float) -> None:
    archive = app.old.simple(NOW_KIND) if form == "zip" else app.old.full()
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DamageFound):
        adopt(app.place.settings, archive)
    assert not app.left() and archive.read_bytes() == data[: int(len(data) * share)]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_flipped_bit(app: Any, form: str) -> None:
    archive = app.old.simple(NOW_KIND) if form == "zip" else app.old.full()
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0x10
    archive.write_bytes(data)
    with pytest.raises(DamageFound):
        adopt(app.place.settings, archive)
    assert not app.left()


def _no_header(database: Path) -> None:
    data = database.read_bytes()
    database.write_bytes(b"\xff" * 4096 + data[4096:])


def _rubbish(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:16] + b"\xff" * 100_000)


def _newer(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[4:8] = (99).to_bytes(4, "little")
    database.write_bytes(data)


def _empty(database: Path) -> None:
    database.write_bytes(b"")


@pytest.mark.parametrize(
    ("break_it", "why"),
    [(_no_header, "the header of this Kuzu database is damaged"), (_rubbish, ""), (_newer, "storage version 99")],
)
def test_a_database_that_cannot_be_opened_is_kept(
    app: Any, files_of: Callable[[Path], dict[str, bytes]], break_it: Callable[[Path], None], why: str
) -> None:
    settings = app.place.settings
    break_it(app.place.database)
    Path(f"{app.place.database}.shadow").write_bytes(b"shadow")
    adopted = adopt(settings, app.old.simple(NOW_KIND))
    message = "\n".join(adopted.warnings)
    assert (
        "could not be opened" in message
        and why in message
        and "kept as it was, without fingerprints of its tables" in message
    )
    assert "during a checkpoint" in message
    assert verify_stored(settings, adopted.backup.id, adopted.backup.copies[0]).sound
    into = app.place.folder / "restored"
    assert not restore(settings, RestoreRequest(reference=adopted.backup.id, path=into)).restored.tables
    files = files_of(into)
    assert files.pop("data/kuzu/bibliotheca.db") == app.place.database.read_bytes(), "not a bit was changed by trying"
    assert files.pop("data/kuzu/bibliotheca.db.shadow") == b"shadow"
    assert files == app.old.expected


def test_a_wal_of_another_state(app: Any) -> None:
    """The change may be harmless or break the database; what is kept is readable or marked."""
    Path(f"{app.place.database}.wal").write_bytes(os.urandom(9000))
    adopted = adopt(app.place.settings, app.old.simple("simple_database_backup"))
    marked = any("could not be opened" in warning for warning in adopted.warnings)
    (part,) = Catalog(app.place.settings).manifest(adopted.backup.copies[0]).parts
    assert marked == (part.kind == "files") == (part.tables is None)


def test_what_is_no_backup(app: Any) -> None:
    settings = app.place.settings
    with pytest.raises(PermanentError, match="nothing in it belongs"):
        adopt(settings, app.old.zip("photos.zip", {"holiday/1.jpg": b"x", "setup.exe": b"y"}, None))
    text = app.old.folder / "notes.txt"
    text.write_text("hello")
    with pytest.raises(UsageError, match="no backup that can be adopted"):
        adopt(settings, text)
    for missing in (app.old.folder / "missing.zip", app.old.folder):
        with pytest.raises(NotFound):
            adopt(settings, missing)
    with pytest.raises(NotFound, match="no such store"):
        adopt(settings, text, to=["nowhere"])
    with pytest.raises(NotFound, match="no such library"):
        adopt(settings, text, library="nowhere")
    assert not app.left()


def test_only_a_library_of_the_kind_may_have_it(app: Any) -> None:
    config = app.place.config
    other = '[libraries.other]\nsources = [{ name = "files", kind = "files", path = "library/data/uploads" }]\n\n'
    config.write_text(other + config.read_text())
    archive = app.old.zip("x.zip", {"config/.env": b"A=1"}, app.old.metadata(NOW_KIND))
    with pytest.raises(UsageError, match="does not belong to this library") as refused:
        adopt(app.place.settings, archive, library="other")
    assert "bibliotheca" in refused.value.hint
    assert adopt(app.place.settings, archive).backup.library == "bibliotheca", "the only one that it can be"


def test_a_library_that_is_held(app: Any) -> None:
    archive = app.old.zip("x.zip", {"config/.env": b"A=1"}, app.old.metadata(NOW_KIND))
    with workspace.lock(app.place.settings, "bibliotheca", "a backup"), pytest.raises(LibraryBusy, match="a backup"):
        adopt(app.place.settings, archive)
    assert not app.left()


def test_a_folder_of_archives(app: Any) -> None:
    """Each has its outcome, in the order of names; a bad one does not stop the others."""
    old = app.old
    old.zip("a.zip", {"config/.env": b"A=1"}, old.metadata(NOW_KIND))
    old.zip("b.zip", {"../x": b"A=1"}, old.metadata(NOW_KIND))
    old.zip("c.zip", {"config/.env": b"A=2"}, old.metadata(NOW_KIND))
    (old.folder / "d.zip").write_bytes((old.folder / "a.zip").read_bytes())
    (old.folder / "simple_backup_index.json").write_text(json.dumps({}))
    (old.folder / "inside").mkdir()
    old.zip("inside/e.zip", {"config/.env": b"A=3"}, None)
    outcomes = list(adopt_each(app.place.settings, AdoptRequest(paths=(old.folder,), pinned=True)))
    words = [
        (one.file.name, "failed" if one.adopted is None else "already" if one.adopted.already else "adopted")
        for one in outcomes
    ]
    assert words == [("a.zip", "adopted"), ("b.zip", "failed"), ("c.zip", "adopted"), ("d.zip", "already")]
    backups = Catalog(app.place.settings).backups()
    assert len(backups) == 2 and all(backup.pinned for backup in backups)
    assert len({backup.copies[0].key for backup in backups}) == 2, "of the same second, under names of their own"
