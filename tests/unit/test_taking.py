"""Taking a backup, step by step: what it is called, where it goes, and what a failure at any point leaves behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scriptorium import taking, workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, LibraryBusy, NoSpace, NotFound, StoreUnavailable, UsageError
from scriptorium.model import Backup, BackupType, Compression, Copy, Manifest, Status, Tier
from scriptorium.settings import Settings, load
from scriptorium.stores import LocalStore
from scriptorium.taking import Order, place_order, running

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@dataclasses.dataclass(frozen=True)
class Home:
    """A library of files alone, with two stores; the first one lies inside what is saved."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "scriptorium.toml"

    @property
    def settings(self) -> Settings:
        return load(self.file, {})

    def store(self, name: str = "local") -> Path:
        return Path(self.settings.store(name).location("lib"))

    def names(self, name: str = "local") -> list[str]:
        folder = self.store(name)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def staging(self) -> list[Path]:
        folder = self.settings.workroom / "staging"
        return list(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where that can be: what is tested syncs often, and a test waits for no disk."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "data" / "covers").mkdir(parents=True)
    (tmp_path / "data" / "covers" / "a.jpg").write_bytes(os.urandom(50_000))
    (tmp_path / "data" / "notes.txt").write_text("notes")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "app.conf").write_text("x = 1")
    (tmp_path / "scriptorium.toml").write_text(
        '[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" },'
        ' { name = "conf", kind = "files", path = "etc/app.conf", role = "config" }]\n'
        '[stores.local]\nkind = "local"\npath = "data/backups"\n[stores.second]\nkind = "local"\npath = "second"\n'
    )
    return Home(tmp_path)


def take(settings: Settings, order: Order) -> tuple[Manifest, list[Copy]]:
    """The recipe of the flow."""
    with running(settings, order) as folder:
        taking.require_room(settings, order)
        staged = [taking.stage_source(settings, order, source, folder) for source in order.sources]
        manifest = taking.pack_archive(settings, order, staged, folder)
        verification = taking.check_archive(settings, order, manifest, folder)
        copies = [taking.store_copy(settings, order, manifest, verification, folder, store) for store in order.stores]
    return manifest, copies


# --- orders -----------------------------------------------------------------------------------------------------------


def test_an_order_is_what_was_asked_for(home: Home) -> None:
    order = place_order(home.settings, name=" before the move ", description=" why\n", now=NOW)
    assert (order.library, order.type, order.tier) == ("lib", BackupType.FULL, Tier.MANUAL)
    assert (order.name, order.description) == ("before the move", "why")
    assert order.created_at == NOW.replace(microsecond=0) and len(order.id) == 12
    assert order.sources == ("data", "conf") and order.stores == ("local", "second")
    assert order.archive == "full_20260102_030405.tar.gz" and order.compression is Compression.GZIP
    listed = order.backup(Status.RUNNING)
    assert (listed.id, listed.name, listed.copies, listed.status) == (order.id, order.name, (), Status.RUNNING)


def test_an_order_without_a_name_is_called_like_its_archive(home: Home) -> None:
    order = place_order(home.settings, type=BackupType.CONFIG, compression=Compression.ZSTD, now=NOW)
    assert (order.name, order.archive) == ("config_20260102_030405", "config_20260102_030405.tar.zst")
    assert order.sources == ("conf",)


@pytest.mark.parametrize("name", ["a\nb", "x" * 201, "\x1b[31mred", "latest", " latest "])
def test_a_name_that_would_be_in_the_way_is_refused(home: Home, name: str) -> None:
    with pytest.raises(UsageError):
        place_order(home.settings, name=name)


def test_stores_are_the_chosen_ones_once_each_and_must_be_known(home: Home) -> None:
    assert place_order(home.settings, to=["second", "second"]).stores == ("second",)
    with pytest.raises(NotFound) as caught:
        place_order(home.settings, to=["local", "third"])
    assert "configured: local, second" in caught.value.hint
    with pytest.raises(NotFound):
        place_order(home.settings, "nobody")
    with pytest.raises(NotFound, match="nothing that a 'database' backup would hold"):
        place_order(home.settings, type=BackupType.DATABASE)


def test_backups_of_the_same_second_get_names_of_their_own(home: Home) -> None:
    settings = home.settings
    expected = [f"full_20260102_030405{tie}.tar.gz" for tie in ("", "-2", "-3")]
    for name in expected:
        order = place_order(settings, now=NOW, to=["local"])
        assert order.archive == name
        take(settings, order)
    assert [name for name in home.names() if name.endswith(".gz")] == sorted(expected)
    assert place_order(settings, now=NOW, to=["second"]).archive == expected[0]
    assert place_order(settings, now=NOW).archive == "full_20260102_030405-4.tar.gz"
    assert len(Catalog(settings).backups()) == 3


def test_an_order_whose_name_was_taken_since_it_was_placed_does_not_replace_the_other(home: Home) -> None:
    settings = home.settings
    first, second = place_order(settings, now=NOW), place_order(settings, now=NOW)
    assert first.archive == second.archive
    take(settings, first)
    with pytest.raises(LibraryBusy, match="very second"), running(settings, second):
        pass
    assert [one.id for one in Catalog(settings).backups()] == [first.id]


def test_a_store_that_does_not_answer_does_not_keep_the_others_from_an_order(home: Home) -> None:
    (home.folder / "second").write_text("not a folder")
    assert place_order(home.settings).stores == ("local", "second")


# --- a backup ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", list(Compression))
def test_a_backup_is_in_every_store_verified_and_nothing_else_is_left(home: Home, compression: Compression) -> None:
    settings = home.settings
    order = place_order(settings, compression=compression, now=NOW)
    manifest, copies = take(settings, order)
    for store in ("local", "second"):
        assert home.names(store) == [order.archive + ending for ending in ("", ".json", ".marks.json")]
        for path in home.store(store).iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (listed,) = Catalog(settings).backups()
    result = taking.finished(order, manifest, copies)
    assert listed == result and listed.status is Status.VERIFIED and listed.parts == ("data", "conf")
    assert [copy.verified_at is not None for copy in listed.copies] == [True, True]
    assert home.staging() == [] and Catalog(settings).find("latest", store="second").id == order.id
    first, second = (home.store(store) / order.archive for store in ("local", "second"))
    assert not first.samefile(second) and first.read_bytes() == second.read_bytes()


def test_an_archive_holds_the_parts_and_never_the_store(home: Home) -> None:
    settings = home.settings
    order = place_order(settings, to=["local"])
    take(settings, order)
    again = place_order(settings, to=["local"])
    take(settings, again)
    with tarfile.open(home.store() / again.archive) as tar:
        names = tar.getnames()
    assert names[0] == "backup_metadata.json" and names[-2:] == ["manifest.json", "SHA256SUMS"]
    assert [name for name in names[1:-2]] == ["data", "data/covers", "data/covers/a.jpg", "data/notes.txt", "conf"]


def test_the_files_of_a_database_are_not_taken_from_under_it_by_a_tree(home: Home) -> None:
    """They would be torn, and a restore would put them over the sound copy."""
    for ending in ("", ".wal", ".shadow"):
        (home.folder / "data" / f"g.db{ending}").write_bytes(b"a living database")
    text = home.file.read_text().replace(
        "sources = [", 'sources = [{ name = "graph", kind = "kuzu", path = "data/g.db" }, '
    )
    home.file.write_text(text)
    settings = home.settings
    order = dataclasses.replace(place_order(settings, to=["local"]), sources=("data",))
    manifest, _ = take(settings, order)
    assert manifest.files.entries is not None
    assert [entry.path for entry in manifest.files.entries] == [
        "data",
        "data/covers",
        "data/covers/a.jpg",
        "data/notes.txt",
    ]


def test_a_step_can_be_tried_again(home: Home) -> None:
    """Tasks are retried: each step finds what its former try left, and the result is the same."""
    settings = home.settings
    order = place_order(settings)
    with running(settings, order) as folder:
        for _ in range(2):
            staged = [taking.stage_source(settings, order, source, folder) for source in order.sources]
        for _ in range(2):
            manifest = taking.pack_archive(settings, order, staged, folder)
        for _ in range(2):
            verification = taking.check_archive(settings, order, manifest, folder)
        for store in (*order.stores, *order.stores):
            taking.store_copy(settings, order, manifest, verification, folder, store)
    (listed,) = Catalog(settings).backups()
    assert listed.status is Status.VERIFIED and len(listed.copies) == 2
    for store in order.stores:
        assert len(home.names(store)) == 3 and list(settings.store(store).leftovers()) == []


def test_bytes_are_told_while_they_are_read(home: Home) -> None:
    settings = home.settings
    order = place_order(settings, to=["local"])
    packed: list[int] = []
    checked: list[int] = []
    with running(settings, order) as folder:
        staged = [taking.stage_source(settings, order, source, folder) for source in order.sources]
        manifest = taking.pack_archive(settings, order, staged, folder, advance=packed.append)
        taking.check_archive(settings, order, manifest, folder, advance=checked.append)
    assert sum(packed) == 50_010 and 0 < sum(checked) <= (manifest.archive.bytes if manifest.archive else 0)


# --- what fails -------------------------------------------------------------------------------------------------------


def only_a_failed_run(home: Home, order: Order) -> Backup:
    (found,) = Catalog(home.settings).backups()
    assert found.id == order.id and found.copies == ()
    assert home.staging() == []
    return found


def test_an_archive_that_was_damaged_before_it_was_checked_goes_nowhere(home: Home) -> None:
    settings = home.settings
    order = place_order(settings)
    with pytest.raises(DamageFound) as caught, running(settings, order) as folder:
        staged = [taking.stage_source(settings, order, source, folder) for source in order.sources]
        manifest = taking.pack_archive(settings, order, staged, folder)
        archive = folder / order.archive
        data = bytearray(archive.read_bytes())
        data[len(data) // 2] ^= 1  # in the picture, which nothing can shrink
        archive.write_bytes(data)
        taking.check_archive(settings, order, manifest, folder)
    assert caught.value.exit_code == 3 and "disk" in caught.value.hint
    failed = only_a_failed_run(home, order)
    assert failed.status is Status.FAILED and "does not read back" in failed.error
    assert home.names("local") == home.names("second") == []


def test_a_second_store_that_fails_leaves_the_first_copy_and_no_half_one(home: Home) -> None:
    settings = home.settings
    order = place_order(settings)
    (home.folder / "second").write_text("not a folder")
    with pytest.raises(StoreUnavailable):
        take(settings, order)
    catalog = Catalog(settings)
    (listed,) = catalog.backups()
    assert listed.id == order.id and [copy.store for copy in listed.copies] == ["local"]
    assert listed.status is Status.VERIFIED and catalog.problems[0].store == "second"


@contextlib.contextmanager
def disk(at: Path, size: str) -> Iterator[Path]:
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small filesystem can only be mounted by root, where mounting is allowed")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_a_second_store_that_becomes_full_keeps_nothing_of_it(home: Home) -> None:
    with disk(home.folder / "second", "20k"):
        settings = home.settings
        order = place_order(settings)
        with pytest.raises(NoSpace), running(settings, order) as folder:
            staged = [taking.stage_source(settings, order, source, folder) for source in order.sources]
            manifest = taking.pack_archive(settings, order, staged, folder)
            for store in order.stores:
                taking.store_copy(settings, order, manifest, None, folder, store)
        assert home.names("second") == [] and list(settings.store("second").leftovers()) == []
        (listed,) = Catalog(settings).backups()
        assert [copy.store for copy in listed.copies] == ["local"] and listed.status is Status.COMPLETE


def test_too_little_room_is_said_before_anything_is_written(home: Home) -> None:
    with disk(home.folder / "second", "1m"):
        settings = home.settings
        order = place_order(settings)
        with pytest.raises(NoSpace) as caught:
            take(settings, order)
        assert "the copy in the store second needs" in str(caught.value) and str(home.folder / "second") in str(
            caught.value
        )
        assert caught.value.exit_code == 7 and home.names("local") == home.names("second") == []
        assert "needs" in only_a_failed_run(home, order).error


def test_room_is_added_up_by_filesystem(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first store takes the finished archive as it is; each further copy is bytes of its own."""
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr(workspace, "require_space", lambda place, needed, what: asked.append((needed, what)))
    for stores, factor in ((["local"], 1), (["second"], 1), (["local", "second"], 2)):
        order = place_order(home.settings, to=stores)
        assert taking.require_room(home.settings, order) == 50_010
        assert asked == [(50_010 * factor, "the backup")]
        asked.clear()
    home.file.write_text("space_factor = 0.5\n" + home.file.read_text())
    assert taking.require_room(home.settings, order) == 25_005 and asked == [(50_010, "the backup")]
    with disk(home.folder / "elsewhere", "1m") as elsewhere:
        home.file.write_text(home.file.read_text().replace('"second"\n', f'"{elsewhere}/second"\n'))
        asked.clear()
        taking.require_room(home.settings, place_order(home.settings))
        assert asked == [(25_005, "the backup"), (25_005, "the copy in the store second")]


def test_a_library_that_is_held_is_not_backed_up_a_second_time(home: Home) -> None:
    settings = home.settings
    order = place_order(settings, type=BackupType.DATA)
    with running(settings, order), pytest.raises(LibraryBusy) as caught:
        take(settings, place_order(settings))
    assert f"data backup {order.id}" in str(caught.value) and f"process {os.getpid()}" in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_run_that_is_cancelled_says_so(home: Home) -> None:
    settings = home.settings
    order = place_order(settings)
    with pytest.raises(KeyboardInterrupt), running(settings, order) as folder:
        (folder / "half").write_text("x")
        (running_now,) = Catalog(settings).backups()
        assert running_now.status is Status.RUNNING
        raise KeyboardInterrupt
    assert only_a_failed_run(home, order).status is Status.CANCELLED


def test_a_full_disk_under_the_record_does_not_hide_the_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = home.settings
    real = Path.write_text

    def full(self: Path, data: str, *args: object, **how: object) -> int:
        if self.suffix == ".partial":
            raise OSError(28, "No space left on device")
        return real(self, data, *args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NoSpace), running(settings, place_order(settings)):
        raise NoSpace("the backup does not fit")


# --- killed -----------------------------------------------------------------------------------------------------------

Kill = Callable[[pytest.MonkeyPatch], None]


def kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_before(owner: object, name: str, count: int = 1) -> Kill:
    """SIGKILL in place of the ``count``-th call."""

    def arrange(patch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)
        left = [count]

        def call(*args: object, **how: object) -> object:
            left[0] -= 1
            return real(*args, **how) if left[0] else kill()

        patch.setattr(owner, name, call)

    return arrange


POINTS: dict[str, Kill] = {  # the first two replacements are the lock's and the run's records
    "while staging": dying_before(taking.quiesce, "snapshot", 2),
    "before packing": dying_before(taking, "pack"),
    "while the archive is written": dying_before(os, "readv"),
    "before the archive gets its name": dying_before(Path, "rename", 1),
    "before checking": dying_before(taking, "verified"),
    "before the archive is in the store": dying_before(Path, "replace", 3),
    "between archive and manifest": dying_before(LocalStore, "put_bytes", 1),
    "while the manifest is written": dying_before(LocalStore, "_beside", 2),
    "before the manifest gets its name": dying_before(Path, "replace", 4),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_leaves_no_half_backup_and_the_next_run_cleans_up(home: Home, point: str) -> None:
    settings = home.settings
    before = place_order(settings, to=["local"], now=NOW - timedelta(days=1))
    take(settings, before)
    order = place_order(settings, to=["local"], now=NOW)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            POINTS[point](pytest.MonkeyPatch())
            take(settings, order)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "the point was never reached"
    listed = {one.id: one for one in Catalog(settings).backups()}
    assert set(listed) == {before.id, order.id}
    assert listed[order.id].copies == () and listed[order.id].status is Status.FAILED
    assert "cut short" in listed[order.id].error and listed[before.id].status is Status.VERIFIED
    after = place_order(settings, to=["local"], now=NOW + timedelta(hours=1))
    take(settings, after)
    expected = [one.archive + ending for one in (before, after) for ending in ("", ".json", ".marks.json")]
    assert home.names() == sorted(expected), "what was left in the store is gone"
    assert home.staging() == [] and list(settings.store("local").leftovers()) == []
    records = settings.workroom / "runs"
    assert [json.loads(file.read_text())["status"] for file in records.glob("*.json")] == ["failed"]
    assert Catalog(settings).backups(records=False)[0].id == after.id


def test_killed_once_the_manifest_is_there_it_is_a_backup(home: Home) -> None:
    settings = home.settings
    order = place_order(settings, to=["local"], now=NOW)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            dying_before(taking, "write_marks")(pytest.MonkeyPatch())
            take(settings, order)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    (listed,) = Catalog(settings).backups()
    assert listed.id == order.id and listed.status is Status.COMPLETE
    take(settings, place_order(settings, to=["local"], now=NOW + timedelta(hours=1)))
    assert {one.status for one in Catalog(settings).backups()} == {Status.COMPLETE, Status.VERIFIED}
