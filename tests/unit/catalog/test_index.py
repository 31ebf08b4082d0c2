"""The catalog's index, which is only a cache."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from catalog_listing import HOUR, Shelf, listed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scriptorium.catalog import Catalog
from scriptorium.errors import StoreUnavailable
from scriptorium.model import Annotations
from scriptorium.stores.objects.local import LocalObjects
from scriptorium.words import BackupType, Status


def index_of(shelf: Shelf, store: str = "local") -> Path:
    return Path(shelf.settings.store(store).location("backup_index.json"))


def read_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lists, and returns the manifests that had to be read for it."""
    read: list[str] = []
    real = LocalObjects.read_bytes

    def counting(self: LocalObjects, key: str) -> bytes:
        if key.endswith(".json") and not key.endswith(".marks.json"):
            read.append(key)
        return real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalObjects, "read_bytes", counting)
        listed(shelf)
    return read


def test_the_index_has_the_fields_of_the_contract(shelf: Shelf) -> None:
    backup = shelf.put(description="d")
    listed(shelf)
    file = index_of(shelf)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = json.loads(file.read_text())
    assert list(rows) == [backup.id]
    row = rows[backup.id]
    assert set(row) == {
        "id",
        "name",
        "backup_type",
        "created_at",
        "file_path",
        "file_size",
        "status",
        "description",
        "metadata",
    }
    assert row["id"] == backup.id and row["name"] == backup.name and row["backup_type"] == "full"
    assert row["file_path"] == str(shelf.path(backup)) and row["file_size"] == 10 and row["status"] == "complete"
    assert datetime.fromisoformat(row["created_at"]) == backup.created_at and row["description"] == "d"
    assert isinstance(row["metadata"], dict)


def test_an_index_that_is_up_to_date_is_believed_and_not_written_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        shelf.put(number * HOUR)
    assert len(read_again(shelf, monkeypatch)) == 3
    before = index_of(shelf).stat()
    assert read_again(shelf, monkeypatch) == []
    assert index_of(shelf).stat().st_ino == before.st_ino
    late = shelf.put(9 * HOUR)
    assert read_again(shelf, monkeypatch) == [f"{late.copies[0].key}.json"]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": 5}',
        b'{"a": {"metadata": 5}}',
    ],
)
def test_an_index_that_is_missing_or_torn_is_made_again(shelf: Shelf, content: bytes | None) -> None:
    expected = [shelf.put(2 * HOUR), shelf.put(HOUR)]
    assert listed(shelf) == expected
    whole = index_of(shelf).read_bytes()
    if content is None:
        index_of(shelf).unlink()
    else:
        index_of(shelf).write_bytes(content)
    assert listed(shelf) == expected
    assert index_of(shelf).read_bytes() == whole


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_index_that_was_altered_anywhere_is_not_believed(shelf: Shelf, data: st.DataObject) -> None:
    """Whatever value or byte is changed: the listing agrees with the manifests."""
    if not listed(shelf):
        shelf.put(HOUR, annotations=Annotations(pinned=True)), shelf.put(2 * HOUR, type=BackupType.CONFIG)
    expected = listed(shelf)
    whole = index_of(shelf).read_bytes()
    if data.draw(st.booleans()):
        rows = json.loads(whole)
        row = rows[sorted(rows)[data.draw(st.integers(0, 1))]]
        table = row if data.draw(st.booleans()) else row["metadata"]
        key = sorted(table)[data.draw(st.integers(0, 100)) % len(table)]
        junk = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
        table[key] = data.draw(junk | st.sampled_from(["2026-01-01T00:00:00", "running", "x" * 12]))
        altered = json.dumps(rows).encode()
    else:
        place = data.draw(st.integers(0, 1_000_000)) % len(whole)
        altered = (
            whole[:place] + bytes([whole[place] ^ data.draw(st.sampled_from([1, 4, 0x20, 0x80]))]) + whole[place + 1 :]
        )
    index_of(shelf).write_bytes(altered)
    assert listed(shelf) == expected


def test_an_index_that_came_with_a_store_from_elsewhere_says_where_things_are_now(shelf: Shelf) -> None:
    backup = shelf.put()
    listed(shelf)
    (shelf.folder / "local").rename(shelf.folder / "moved")  # or a disk that is mounted elsewhere: the very same files
    file = shelf.file.read_text().replace('path = "local"', 'path = "moved"')
    shelf.file.write_text(file)
    from scriptorium.settings import load

    moved = load(shelf.file, {})
    assert [one.id for one in Catalog(moved).backups()] == [backup.id]
    row = json.loads((shelf.folder / "moved" / "backup_index.json").read_text())[backup.id]
    assert row["file_path"] == str(shelf.folder / "moved" / backup.copies[0].key)


def test_what_is_done_by_hand_in_the_store_is_seen(shelf: Shelf) -> None:
    gone, cut, lost, kept, odd = (shelf.put(number * HOUR, content=b"x" * 100) for number in range(5))
    assert len(listed(shelf)) == 5
    for ending in ("", ".json"):
        shelf.path(gone, ending).unlink()
    shelf.path(cut).write_bytes(b"x" * 99)
    shelf.path(lost).unlink()
    shelf.path(odd, ".json").write_bytes(shelf.path(odd, ".json").read_bytes().replace(b"lib", b"lob"))
    for _ in range(2):
        found = {one.created_at: one for one in listed(shelf)}
        assert gone.created_at not in found and found[kept.created_at].status is Status.COMPLETE
        assert found[cut.created_at].copies[0].damage == ("the archive has 99 bytes instead of 100",)
        assert found[lost.created_at].copies[0].damage == ("the archive is missing",)
        (broken,) = (one for one in listed(shelf) if one.error)
        assert broken.status is Status.DAMAGED and broken.library == "lib" and "checksum" in broken.error
        assert broken.name == shelf.path(odd).name and broken.copies[0].key == odd.copies[0].key
        assert broken.id != odd.id and f"it says that it is the backup {odd.id}" in broken.error
        catalog = Catalog(shelf.settings)
        for reference in (odd.id, odd.id[:6], odd.name, broken.name, broken.name.partition(".tar")[0], broken.id):
            assert catalog.find(reference) == broken


def test_a_sound_backup_comes_before_one_that_only_claims_to_be_sound(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    backup = shelf.put(HOUR, "local", "second")
    torn = shelf.path(backup, ".json")
    torn.write_bytes(torn.read_bytes().replace(b"lib", b"lob"))
    assert len(listed(shelf)) == 2
    found = Catalog(shelf.settings).find(backup.id)
    assert not found.error and [copy.store for copy in found.copies] == ["second"]


def test_others_files_in_the_store_are_nothing_to_us(shelf: Shelf) -> None:
    backup = shelf.put()
    store = shelf.folder / "local"
    (store / "photos").mkdir()
    for path in ("photos/a.tar.gz", "photos/meta.json", "lib/notes.txt", "lib/settings.json", "README.md"):
        (store / path).write_text("theirs")
    (store / "lib" / os.fsdecode(b"\xff.json")).write_text("theirs")
    assert listed(shelf) == [backup]


def test_a_manifest_whose_name_is_not_text_is_listed_as_damaged(shelf: Shelf) -> None:
    shelf.put()
    (shelf.folder / "local" / "lib" / os.fsdecode(b"\xff.tar.gz.json")).write_text('{\n  "version": 1, torn')
    for _ in range(2):
        assert sorted(str(one.status) for one in listed(shelf)) == ["complete", "damaged"]


def test_a_manifest_that_the_disk_does_not_give_does_not_hide_the_others(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = shelf.put(HOUR), shelf.put(2 * HOUR)
    real = LocalObjects.read_bytes

    def failing(self: LocalObjects, key: str) -> bytes:
        if key == f"{bad.copies[0].key}.json":
            raise StoreUnavailable("the store does not answer: Input/output error", on=key)
        return real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalObjects, "read_bytes", failing)
        found = listed(shelf)
        assert [one.status for one in found if one.id == good.id] == [Status.COMPLETE]
        assert [one.error for one in found if one.id != good.id] == [
            f"the store does not answer: Input/output error: {bad.copies[0].key}.json"
        ]
    assert listed(shelf) == [good, bad], "it was not remembered as damaged"


def test_a_backup_of_a_newer_program_is_listed_and_named_as_such(shelf: Shelf) -> None:
    from scriptorium.manifest import sealed

    backup = shelf.put()
    shelf.path(backup, ".json").write_bytes(sealed({"version": 99}))
    (found,) = listed(shelf)
    assert found.status is Status.DAMAGED and "version 99" in found.error


def test_rebuild_makes_every_index_again_from_the_manifests(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    one, two = shelf.put(HOUR, "local", "second"), shelf.put(2 * HOUR)
    assert Catalog(shelf.settings).rebuild() == 3
    for store in ("local", "second"):
        index_of(shelf, store).write_text("{}")
    assert Catalog(shelf.settings).rebuild() == 3
    assert set(json.loads(index_of(shelf).read_text())) == {one.id, two.id}
    assert set(json.loads(index_of(shelf, "second").read_text())) == {one.id}


def test_a_store_where_nothing_can_be_written_is_listed_anyway(shelf: Shelf, as_nobody: Callable[[], Any]) -> None:
    backup = shelf.put()
    for path in (shelf.folder / "local", *(shelf.folder / "local").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with as_nobody():
        if os.geteuid() != 0:
            assert listed(shelf) == [backup]
    assert not index_of(shelf).exists() or os.geteuid() != 0


def test_two_processes_that_list_at_once_leave_one_whole_index(shelf: Shelf) -> None:
    for number in range(20):
        shelf.put(number * HOUR)
    script = (
        "import sys\nfrom pathlib import Path\nfrom scriptorium.settings import load\n"
        "from scriptorium.catalog import Catalog\n"
        f"settings = load(Path({str(shelf.file)!r}), {{}})\n"
        "for _ in range(15): assert Catalog(settings).rebuild() == 20\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    for child in children:
        assert child.wait() == 0
    assert len(json.loads(index_of(shelf).read_text())) == 20
    assert [path.name for path in (shelf.folder / "local").iterdir() if "partial" in path.name] == []
