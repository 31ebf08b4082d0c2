"""The catalog: an index that is only a cache, backups found by what people call them, records of runs."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scriptorium.catalog import Catalog, begin_run, finish_run, interrupted, runs
from scriptorium.errors import DamageFound, NotFound, StoreUnavailable, UsageError
from scriptorium.manifest import dumps, loads
from scriptorium.model import Backup, BackupType, Marks, Proof, Status, Tier, Verification
from scriptorium.stores import LocalStore
from scriptorium.stores.backups import write_marks

HOUR = timedelta(hours=1)
Shelf = Any  # the fixture's class; test modules cannot import from conftest


def index_of(shelf: Shelf, store: str = "local") -> Path:
    return Path(shelf.settings.store(store).location("backup_index.json"))


def listed(shelf: Shelf, **how: Any) -> list[Backup]:
    return Catalog(shelf.settings).backups(**how)


def read_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lists, and returns the manifests that had to be read for it."""
    read: list[str] = []
    real = LocalStore.read_bytes

    def counting(self: LocalStore, key: str) -> bytes:
        if key.endswith(".json") and not key.endswith(".marks.json"):
            read.append(key)
        return real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "read_bytes", counting)
        listed(shelf)
    return read


# --- what is listed ---------------------------------------------------------------------------------------------------


def test_an_empty_store_has_no_backups_and_gets_no_index(shelf: Shelf) -> None:
    assert listed(shelf) == []
    assert not Path(shelf.settings.store("local").location("x")).parent.exists()


def test_backups_are_listed_newest_first_with_everything_known_of_them(shelf: Shelf) -> None:
    old = shelf.put(HOUR, type=BackupType.DATA, tier=Tier.DAILY, description='größe\n"x"', warnings=("a", "b"))
    new = shelf.put(2 * HOUR, library="other")
    found = listed(shelf)
    assert found == [new, dataclasses.replace(old, warnings=2)]
    assert listed(shelf) == found, "from the index"
    assert listed(shelf, library="lib") == [found[1]] and listed(shelf, type=BackupType.FULL) == [found[0]]
    assert listed(shelf, library="nobody") == []


def test_a_backup_s_status_is_what_is_known_of_it(shelf: Shelf) -> None:
    when = datetime(2026, 2, 1, tzinfo=UTC)
    sound, bad = Verification(when, True), Verification(when, False, ("altered member: a",))
    proof = Proof(when, "local", True, 1.0, 1.0, 1, 1, 0, 0)
    expected = {
        shelf.put(1 * HOUR).id: (Status.COMPLETE, None, ()),
        shelf.put(2 * HOUR, marks=Marks(verification=sound)).id: (Status.VERIFIED, when, ()),
        shelf.put(3 * HOUR, marks=Marks(verification=bad)).id: (Status.DAMAGED, when, bad.damage),
        shelf.put(4 * HOUR, marks=Marks(verification=sound, proof=proof)).id: (Status.PROVEN, when, ()),
        shelf.put(5 * HOUR, marks=Marks(verification=bad, proof=proof)).id: (Status.DAMAGED, when, bad.damage),
    }
    for _ in range(2):  # the second time from the index
        found = {one.id: (one.status, one.copies[0].verified_at, one.copies[0].damage) for one in listed(shelf)}
        assert found == expected


def test_pins_are_seen(shelf: Shelf) -> None:
    backup = shelf.put()
    assert not listed(shelf)[0].pinned
    write_marks(shelf.settings.store("local"), backup.copies[0].key, Marks(pinned=True))
    assert listed(shelf)[0].pinned
    shelf.path(backup, ".marks.json").write_bytes(b"torn")
    assert listed(shelf)[0].pinned, "who knows what they said"
    shelf.path(backup, ".marks.json").unlink()
    assert not listed(shelf)[0].pinned


# --- the index is a cache ---------------------------------------------------------------------------------------------


def test_the_index_is_what_the_contract_says(shelf: Shelf) -> None:
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
    """Whatever value, whatever byte: the listing is what the manifests say."""
    if not listed(shelf):
        shelf.put(HOUR, marks=Marks(pinned=True)), shelf.put(2 * HOUR, type=BackupType.CONFIG)
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
    (shelf.folder / "local" / "lib" / os.fsdecode(b"\xff.tar.gz.json")).write_text("?")
    for _ in range(2):
        assert sorted(str(one.status) for one in listed(shelf)) == ["complete", "damaged"]


def test_a_manifest_that_the_disk_does_not_give_does_not_hide_the_others(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = shelf.put(HOUR), shelf.put(2 * HOUR)
    real = LocalStore.read_bytes

    def failing(self: LocalStore, key: str) -> bytes:
        if key == f"{bad.copies[0].key}.json":
            raise StoreUnavailable("the store does not answer: Input/output error", on=key)
        return real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "read_bytes", failing)
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


def test_a_store_where_nothing_can_be_written_is_listed_all_the_same(
    shelf: Shelf, as_nobody: Callable[[], Any]
) -> None:
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


# --- several stores ---------------------------------------------------------------------------------------------------


def test_copies_of_one_backup_are_one_backup(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    both, here, there = shelf.put(HOUR, "local", "second"), shelf.put(2 * HOUR), shelf.put(3 * HOUR, "second")
    assert listed(shelf) == [there, here, both]
    assert [copy.store for copy in listed(shelf)[2].copies] == ["local", "second"]
    assert [one.id for one in listed(shelf, store="second")] == [there.id, both.id]
    assert [copy.store for copy in listed(shelf, store="second")[1].copies] == ["second"]
    shelf.path(both).unlink()
    found = listed(shelf)[2]
    assert found.status is Status.COMPLETE, "one sound copy is enough"
    assert [str(copy.status) for copy in found.copies] == ["damaged", "complete"]
    catalog = Catalog(shelf.settings)
    assert catalog.copy_of(found).store == "second"
    assert catalog.copy_of(found, "local").status is Status.DAMAGED
    with pytest.raises(NotFound, match="no copy in the store second"):
        catalog.copy_of(here, "second")
    with pytest.raises(NotFound):
        catalog.backups(store="third")


def test_a_store_that_does_not_answer_is_noted_and_the_others_are_listed(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    here = shelf.put()
    (shelf.folder / "second").write_text("not a folder")
    catalog = Catalog(shelf.settings)
    assert catalog.backups() == [here]
    assert [problem.store for problem in catalog.problems] == ["second"]
    with pytest.raises(NotFound) as caught:
        catalog.find("ffffffffffff")
    assert caught.value.hint == "these stores could not be read: second"
    (shelf.folder / "second").unlink()
    assert catalog.backups() == [here] and catalog.problems == ()


def test_the_manifest_of_a_copy_is_read_from_its_store(shelf: Shelf) -> None:
    backup = shelf.put()
    catalog = Catalog(shelf.settings)
    assert catalog.manifest(backup.copies[0]) == loads(shelf.path(backup, ".json").read_bytes())
    shelf.path(backup, ".json").write_bytes(b"{}")
    with pytest.raises(DamageFound):
        catalog.manifest(backup.copies[0])
    shelf.path(backup, ".json").unlink()
    with pytest.raises(NotFound):
        catalog.manifest(backup.copies[0])


# --- found by what people call them -----------------------------------------------------------------------------------


def test_a_backup_is_found_by_id_prefix_name_and_file(shelf: Shelf) -> None:
    first = shelf.put(HOUR, id="aaaa11112222", name="before the move")
    second = shelf.put(2 * HOUR, id="aaaa33334444", name="aaaa1111")
    third = shelf.put(3 * HOUR, id="bbbb33334444", name="bbbb", library="other")
    find = Catalog(shelf.settings).find
    assert find("aaaa11112222") == find("before the move") == find("aaaa11112") == first
    assert find("aaaa1111") == second, "a name is meant before a prefix"
    assert find("aaaa3333") == second
    assert find("bbbb3") == find("bbbb") == find(third.copies[0].key.partition("/")[2]) == third
    assert find("latest") == third and find("latest", library="lib") == second
    for nothing in ("aaa", "AAAA1111", "cccc", "", "move", "aaaa111122223", "*"):
        with pytest.raises(NotFound):
            find(nothing)
    with pytest.raises(NotFound):
        find("before the move", library="other")


def test_what_could_be_several_is_not_guessed(shelf: Shelf) -> None:
    ids = [shelf.put(number * HOUR, id=f"aaaa{number}1112222", name="nightly").id for number in range(2)]
    for reference in ("aaaa", "nightly"):
        with pytest.raises(UsageError) as caught:
            Catalog(shelf.settings).find(reference)
        assert all(one in caught.value.hint for one in ids) and caught.value.exit_code == 2


def test_the_latest_is_the_latest_good_one(shelf: Shelf) -> None:
    catalog = Catalog(shelf.settings)
    with pytest.raises(NotFound, match="no good backup yet"):
        catalog.find("latest")
    good, bad = shelf.put(HOUR), shelf.put(2 * HOUR)
    shelf.path(bad).unlink()
    run = dataclasses.replace(shelf.put(3 * HOUR, library="other"), id="cccccccccccc", library="lib", copies=())
    begin_run(shelf.settings, run)
    assert catalog.find("latest", library="lib") == good


def test_a_name_means_the_backup_and_not_the_run_that_failed(shelf: Shelf) -> None:
    backup = shelf.put(HOUR, name="before the move")
    failed = dataclasses.replace(backup, id="cccccccccccc", copies=(), created_at=backup.created_at + HOUR)
    finish_run(shelf.settings, failed, Status.FAILED, "no space")
    catalog = Catalog(shelf.settings)
    assert catalog.find("before the move") == backup
    assert catalog.find("cccc").error == "no space"
    with pytest.raises(NotFound, match="no copy in any store") as caught:
        catalog.copy_of(catalog.find("cccc"))
    assert "failed" in caught.value.hint


# --- runs that left no copy -------------------------------------------------------------------------------------------


@pytest.fixture
def run(shelf: Shelf) -> Backup:
    backup: Backup = shelf.put()
    for ending in ("", ".json"):
        shelf.path(backup, ending).unlink()
    return dataclasses.replace(backup, copies=(), bytes=0, status=Status.RUNNING, description="a\nb")


def test_a_run_is_listed_while_it_runs_and_when_it_failed(shelf: Shelf, run: Backup) -> None:
    begin_run(shelf.settings, run)
    assert listed(shelf) == [run] and listed(shelf, records=False) == [] and listed(shelf, store="local") == []
    finish_run(shelf.settings, run, Status.FAILED, "the store is full")
    assert listed(shelf) == [dataclasses.replace(run, status=Status.FAILED, error="the store is full")]
    finish_run(shelf.settings, run, Status.CANCELLED, "the run was cancelled")
    assert listed(shelf)[0].status is Status.CANCELLED
    finish_run(shelf.settings, run, Status.COMPLETE)
    assert listed(shelf) == []
    finish_run(shelf.settings, run, Status.COMPLETE)


def test_a_run_that_left_a_copy_is_listed_once(shelf: Shelf) -> None:
    backup = shelf.put()
    finish_run(shelf.settings, dataclasses.replace(backup, copies=()), Status.FAILED, "the second store is full")
    assert listed(shelf) == [backup]


def dead_run(shelf: Shelf, run: Backup) -> None:
    """Recorded by a process that is gone."""
    pid = os.fork()
    if pid == 0:
        begin_run(shelf.settings, run)
        os._exit(0)
    os.waitpid(pid, 0)


def test_a_run_whose_process_is_gone_failed(shelf: Shelf, run: Backup) -> None:
    dead_run(shelf, run)
    (found,) = listed(shelf)
    assert found.status is Status.FAILED and "cut short" in found.error


def test_a_process_that_was_given_the_dead_one_s_number_is_not_the_run(shelf: Shelf, run: Backup) -> None:
    begin_run(shelf.settings, run)
    file = shelf.settings.workroom / "runs" / f"{run.id}.json"
    facts = json.loads(file.read_text())
    facts["written_at"] = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    file.write_text(json.dumps(facts))
    assert listed(shelf)[0].status is Status.FAILED


def test_who_holds_the_library_marks_dead_runs_as_failed_for_good(shelf: Shelf, run: Backup) -> None:
    other = dataclasses.replace(run, id="dddddddddddd", library="other")
    for one in (run, other):
        begin_run(shelf.settings, one)
    cut = interrupted(shelf.settings, "lib")
    assert [(one.id, one.status) for one in cut] == [(run.id, Status.FAILED)]
    assert {one.id: one.status for one in runs(shelf.settings)} == {run.id: Status.FAILED, other.id: Status.RUNNING}
    assert interrupted(shelf.settings, "lib") == ()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"id": "x"}', b"\xff", b"[" * 100_000, b'{"status": "proven"}']
)
def test_a_torn_record_says_nothing(shelf: Shelf, run: Backup, content: bytes) -> None:
    begin_run(shelf.settings, run)
    (shelf.settings.workroom / "runs" / "eeeeeeeeeeee.json").write_bytes(content)
    assert listed(shelf) == [run] and len(interrupted(shelf.settings, "lib")) == 1


def test_records_that_are_many_are_not_kept_for_ever(shelf: Shelf, run: Backup) -> None:
    for number in range(110):
        one = dataclasses.replace(run, id=f"{number:012x}")
        begin_run(shelf.settings, one)
        finish_run(shelf.settings, one, Status.FAILED, "x")
    files = list((shelf.settings.workroom / "runs").iterdir())
    assert len(files) <= 101 and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_a_record_that_cannot_be_written_hides_no_error(shelf: Shelf, run: Backup) -> None:
    shelf.settings.workroom.mkdir(parents=True, exist_ok=True)
    (shelf.settings.workroom / "runs").write_text("in the way")
    begin_run(shelf.settings, run)
    finish_run(shelf.settings, run, Status.FAILED, "x")
    assert list(runs(shelf.settings)) == []


# --- many -------------------------------------------------------------------------------------------------------------


def test_a_thousand_backups_are_listed(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured, and printed; how long it may take is the benchmark's business."""
    pattern = loads(shelf.path(shelf.put(), ".json").read_bytes())
    assert pattern.archive is not None
    for number in range(999):
        name = f"full_20260102_{number:06d}.tar.gz"
        record = dataclasses.replace(
            pattern, id=f"{number:012x}", archive=dataclasses.replace(pattern.archive, name=name, bytes=4)
        )
        (shelf.folder / "local" / "lib" / name).write_bytes(b"data")
        (shelf.folder / "local" / "lib" / f"{name}.json").write_bytes(dumps(record))
    times = {}
    for what in ("without an index", "from the index", "once more"):
        began = time.perf_counter()
        assert len(listed(shelf)) == 1000
        times[what] = f"{time.perf_counter() - began:.3f} s"
    with capsys.disabled():
        print(f"\n1,000 backups: {times}")
