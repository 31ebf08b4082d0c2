"""What only rsync does: links to the earlier backup, changes that it does not see, other files in the folder."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prepared_backup import LABEL, LATER, TAKEN, folder_of_everything, prepared
from rsync_backups import contents, restored, stored
from ssh_server import local_store

from scriptorium.errors import DamageFound, StoreRefused, StoreUnavailable, ToolMissing
from scriptorium.operations.copies import check, put
from scriptorium.stores import RsyncStore, Share
from scriptorium.stores.trees.rsync import program, saving
from scriptorium.stores.trees.rsync.folder import Folder
from scriptorium.stores.trees.rsync.remote import Remote
from scriptorium.stores.trees.rsync.site import Keeps
from scriptorium.words import Compression

DOCUMENT = Path(__file__).parents[2] / "docs" / "stores.md"


@pytest.fixture
def store(tmp_path: Path) -> RsyncStore:
    return local_store(tmp_path / "store")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_everything(tmp_path / "data")


def test_unchanged_files_are_links_and_changed_ones_are_not(store: RsyncStore, data: Path) -> None:
    first = stored(store, data)
    (data / "sub" / "empty").write_text("no more")
    second = stored(store, data, 2)
    one, two = contents(store, first) / "data", contents(store, second) / "data"
    assert (one / "noise").samefile(two / "noise") and (two / "sub/again").samefile(two / "noise")
    assert (one / "sub/empty").read_text() == "" and (two / "sub/empty").read_text() == "no more"
    assert store.verify(first).sound and store.verify(second).sound
    store.remove(first)
    assert store.verify(second).sound
    assert store.usage()[0] == 50_003 + 7


def test_a_change_behind_an_equal_size_and_time_is_sent(store: RsyncStore, data: Path) -> None:
    """rsync's own comparison sees nothing; the hash in the earlier record differs."""
    first = stored(store, data)
    before = (data / "noise").lstat()
    (data / "noise").write_bytes(os.urandom(50_000))
    os.utime(data / "noise", ns=(before.st_atime_ns, before.st_mtime_ns))
    second = stored(store, data, 2)
    one, two = contents(store, first) / "data", contents(store, second) / "data"
    assert (two / "noise").read_bytes() == (data / "noise").read_bytes() != (one / "noise").read_bytes()
    assert (two / "sub/again").samefile(two / "noise") and store.verify(second).sound and store.verify(first).sound


def test_damage_does_not_pass_to_the_next_backup(store: RsyncStore, data: Path, tmp_path: Path) -> None:
    first = stored(store, data)
    kept = contents(store, first) / "data/noise"
    before = kept.lstat()
    kept.write_bytes(b"x" * 50_000)
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))
    store.annotate(first, replace(store.annotations(first), verification=store.verify(first)))
    second = stored(store, data, 2)
    assert store.verify(second).sound and not store.verify(first).sound


def test_with_checksum_a_damaged_file_is_not_linked_to(data: Path, tmp_path: Path) -> None:
    store = local_store(tmp_path / "store", checksum=True)
    kept = contents(store, stored(store, data)) / "data/noise"
    before = kept.lstat()
    kept.write_bytes(b"x" * 50_000)
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.verify(stored(store, data, 2)).sound


def test_a_change_between_our_reading_and_rsyncs_is_named(store: RsyncStore, data: Path, tmp_path: Path) -> None:
    (data / "gone").write_text("gone")
    (data / "touched").write_text("the same")

    def meanwhile() -> None:
        (data / "noise").write_bytes(b"later" * 999)
        (data / "gone").unlink()
        (data / "touched").chmod(0o640)

    key = stored(store, data, meanwhile=meanwhile)
    manifest = store.manifest(key)
    assert sorted(manifest.warnings) == [
        "data/gone: vanished before rsync read it",
        "data/noise: changed after it was read: the copy has its later state",
    ]
    assert manifest.parts[0].bytes == 4995 + 3 + 8 and manifest.unsaved_count == 0
    assert store.verify(key).sound
    assert (restored(store, key, tmp_path / "back") / "data/noise").read_bytes() == b"later" * 999
    assert not (tmp_path / "back/data/gone").exists()


def test_nothing_is_written_through_a_folder_that_became_a_link(store: RsyncStore, data: Path, tmp_path: Path) -> None:
    (data / "sub" / "file").write_text("precious")
    other = tmp_path / "other"
    inodes = list[int]()

    def meanwhile() -> None:
        shutil.copytree(data / "sub", other, copy_function=shutil.copy2)
        shutil.rmtree(data / "sub")
        (data / "sub").symlink_to(other)
        inodes.extend(path.lstat().st_ino for path in sorted(other.iterdir()))

    key = stored(store, data, meanwhile=meanwhile)
    assert [path.lstat().st_ino for path in sorted(other.iterdir())] == inodes
    assert store.verify(key).sound and not (contents(store, key) / "data/sub").is_symlink()


def test_folders_and_files_of_others_are_left_alone(store: RsyncStore, data: Path) -> None:
    place = Path(str(store.path))
    for name in ("theirs/2026", "lib/notes", "lib/.hidden.partial", ".snapshots/x"):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text("theirs")
    (place / "readme").write_text("theirs")
    before = sorted(place.rglob("*"))
    store.remove(stored(store, data))
    assert list(store.list()) == [] and store.sweep(datetime.now(UTC) + LATER) == ()
    store.remove("theirs/2026")
    assert sorted(place.rglob("*")) == before
    (place / "lib" / LABEL).mkdir()
    assert not store.is_free("lib", LABEL)
    with pytest.raises(StoreRefused, match="has this name already"):
        stored(store, data)
    assert list((place / "lib" / LABEL).iterdir()) == []


def test_a_copy_that_is_damaged_is_replaced_by_the_same_backup(store: RsyncStore, data: Path) -> None:
    one = prepared(data, store)
    key = put(store, Compression.GZIP, one, check(one)).key
    inode = contents(store, key).stat().st_ino
    put(store, Compression.GZIP, one, check(one))
    assert contents(store, key).stat().st_ino == inode
    (contents(store, key) / "data/noise").write_bytes(b"damaged")
    assert put(store, Compression.GZIP, one, check(one)).key == key
    assert store.verify(key).sound and len(list(store.list())) == 1


def test_damage_on_the_way_is_found_before_the_backup_gets_its_name(
    store: RsyncStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = saving.corrected

    def damaging(package: Any, lookup: Any, *, incomplete: bool) -> Any:
        (file,) = Path(str(store.path)).rglob("noise")
        file.write_bytes(b"x" * 50_000)
        return real(package, lookup, incomplete=incomplete)

    monkeypatch.setattr(saving, "corrected", damaging)
    monkeypatch.setattr(saving.Transfer, "again", lambda *_: None)
    with pytest.raises(DamageFound, match="reads back differently"):
        stored(store, data)
    assert list(store.list()) == [] and list((Path(str(store.path)) / "lib").iterdir()) == []


def test_a_part_of_a_backup_that_was_removed_by_hand_is_missed(store: RsyncStore, data: Path) -> None:
    key = stored(store, data)
    shutil.rmtree(contents(store, key) / "data/sub")
    assert store.verify(key).damage == ("missing member: data/sub/empty",)
    shutil.rmtree(contents(store, key))
    (found,) = store.list()
    assert store.visible_damage(found, store.manifest(key)) == ("the folder of its contents is missing",)
    assert not store.verify(key, share=Share(1, 2)).sound
    (contents(store, key).parent / "members.jsonl").unlink()
    assert store.verify(key).damage == ("altered member: manifest.json (the record lacks members.jsonl)",)


def test_what_the_filesystem_there_cannot_keep_is_named(
    store: RsyncStore, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Folder.prepare
    monkeypatch.setattr(
        Folder, "prepare", lambda *a: real(*a) and Keeps(links=False, symlinks=False, modes=False, case=False)
    )
    (data / "secret").write_text("secret")
    (data / "secret").chmod(0o400)
    key = stored(store, data)
    assert [one.partition(":")[0] for one in store.manifest(key).warnings] == [
        "the store's filesystem has no hard links",
        "the store's filesystem has no symlinks",
        "the store's filesystem keeps no modes and owners",
    ]
    back = restored(store, key, tmp_path / "back") / "data"
    assert os.readlink(back / "link") == "noise" and (back / "secret").lstat().st_mode & 0o777 == 0o400  # noqa: PTH115
    (data / "NOISE").write_text("another")
    with pytest.raises(StoreRefused, match="takes two names for one"):
        stored(store, data, 2)
    assert [found.key for found in store.list()] == [key]


def test_a_run_that_was_killed_costs_nothing_that_had_arrived(store: RsyncStore, data: Path) -> None:
    """rsync is killed in the middle of a file; the next backup links to the files that were whole."""
    (data / "a large file").write_bytes(os.urandom(30 << 20))
    (data / "zz").write_bytes(os.urandom(20 << 20))
    line = [sys.executable, "-c", _PUT, str(store.path), str(data)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen(line, env=env, start_new_session=True)
    place, until = Path(str(store.path)), time.monotonic() + 60
    try:
        while not (whole := list(place.glob("lib/.*/contents/data/a large file"))) and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait(30)
    inode = whole[0].lstat().st_ino
    assert list(store.list()) == [] and not store.is_free("lib", LABEL)
    assert len(store.discard_unfinished("lib", TAKEN)) == 1 and store.is_free("lib", LABEL)
    key = stored(store, data, 2)
    assert (contents(store, key) / "data/a large file").lstat().st_ino == inode
    assert store.verify(key).sound and [path.name for path in (place / "lib").iterdir()] == [f"{LABEL}-2"]


def test_what_an_unfinished_backup_had_of_a_file_is_sent_again(store: RsyncStore, data: Path) -> None:
    """With an equal size and time, rsync links to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "_describe", lambda *_: (_ for _ in ()).throw(StoreUnavailable("cut short")))
        with pytest.raises(StoreUnavailable):
            stored(store, data)
    before = (data / "noise").lstat()
    (data / "noise").write_bytes(os.urandom(50_000))
    os.utime(data / "noise", ns=(before.st_atime_ns, before.st_mtime_ns))
    key = stored(store, data)
    assert (contents(store, key) / "data/noise").read_bytes() == (data / "noise").read_bytes()
    assert store.verify(key).sound and list((Path(str(store.path)) / "lib").glob(".*")) == []


_PUT = """
import sys
from pathlib import Path
from prepared_backup import prepared
from scriptorium.operations.copies import check, put
from scriptorium.stores import RsyncStore
from scriptorium.words import Compression
store = RsyncStore(path=Path(sys.argv[1]), bwlimit="15m")
one = prepared(Path(sys.argv[2]), store)
put(store, Compression.GZIP, one, check(one))
"""


def test_a_folder_stays_young_while_bytes_move(store: RsyncStore, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleanup must not remove a backup that is being made for days."""
    monkeypatch.setattr("scriptorium.stores.trees.rsync.transfer._YOUNG", 0.0)
    touched = list[str]()
    monkeypatch.setattr(Folder, "touch", lambda _, folder: touched.append(folder))
    stored(store, data)
    assert touched and all(folder.startswith(f"lib/.{LABEL}.") for folder in touched)


def test_a_file_that_the_disk_cannot_read_is_damage(
    store: RsyncStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = stored(store, data)

    def broken(file: Any, advance: Any) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), file.name)

    monkeypatch.setattr("scriptorium.stores.trees.rsync.folder._hash", broken)
    assert store.verify(key).damage[0].endswith("is unreadable…)")


def test_a_folder_is_made_and_examined(store: RsyncStore, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(str(store.path))
    assert [one.what for one in store.examine(try_delete=False)] == ["program"] and not place.exists()
    assert store.initialize() == "the folder is there, and can be written to"
    assert [one.what for one in store.examine(try_delete=True)] == ["program", "removal"]
    monkeypatch.setattr(Folder, "prepare", lambda *_: Keeps(links=False, case=False))
    lacks = [one.found for one in store.examine(try_delete=True) if one.what == "filesystem"]
    assert lacks == ["it keeps no hard links", "it keeps no names that differ in case alone"]
    assert list(place.iterdir()) == []
    monkeypatch.undo()
    place.rmdir()
    place.write_text("not a folder")
    assert [one.good for one in store.examine(try_delete=True)] == [True, False]


def test_a_program_that_is_missing_here(store: RsyncStore, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(data, store)
    monkeypatch.setattr(program, "PROGRAM", "no-such-rsync")
    with pytest.raises(ToolMissing, match="program not found"):
        put(store, Compression.GZIP, one, check(one))
    assert list(store.list()) == [] and isinstance(store.site, Folder)
    assert isinstance(RsyncStore(target="nas:/srv").site, Remote)


def test_the_documents_settings(store: RsyncStore, data: Path) -> None:
    chapter = DOCUMENT.read_text().partition("## Folders made by rsync")[2]
    tables = tomllib.loads(chapter.partition("```toml\n")[2].partition("```")[0])["stores"]
    found = {name: RsyncStore.model_validate({**table, "name": name}) for name, table in tables.items()}
    assert found["nas"].features.remote and found["disk"].folder == Path("/mnt/disk/backups")
    keys = {row.split("`")[1] for row in chapter.partition("| key |")[2].partition("\n\n")[0].splitlines()[2:]}
    assert keys == RsyncStore.model_fields.keys() - {"kind", "name"}
    same = found["disk"].model_copy(update={"path": store.path})
    assert same.verify(stored(same, data)).sound


def test_the_documents_way_without_us(store: RsyncStore, data: Path, tmp_path: Path) -> None:
    (data / "sub" / "empty").write_text("older")
    stored(store, data, label="database_20260203_000000")
    stored(store, data, label="full_20260204_000000")
    chapter = DOCUMENT.read_text().partition("### With rsync alone")[2]
    commands = [line[2:] for line in chapter.partition("```\n\n")[0].splitlines() if line.startswith("$ ")]
    assert len(commands) == 4
    script = "\n".join(commands).replace("/mnt/disk/backups/bibliotheca", f"{store.path}/lib")
    subprocess.run(["bash", "-euc", script], env={**os.environ, "HOME": str(tmp_path)}, check=True)
    back = tmp_path / "back" / "data"
    assert (back / "noise").read_bytes() == (data / "noise").read_bytes()
    assert (back / os.fsdecode(b"\xff odd\n")).read_text() == "odd" and (back / "sub/again").samefile(back / "noise")
