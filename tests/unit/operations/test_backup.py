"""Taking a backup, step by step: what it is called, where it goes, and what it holds."""

from __future__ import annotations

import dataclasses
import stat
import tarfile

import backup_setup
import pytest
from backup_setup import NOW, Home, take

from scriptorium.catalog import Catalog
from scriptorium.errors import LibraryBusy, NotFound, UsageError
from scriptorium.model import BackupType, Compression, Status, Tier
from scriptorium.operations import backup
from scriptorium.operations.backup import place_order, running

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests


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
    result = backup.finished(order, manifest, copies)
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
            staged = [backup.stage_source(settings, order, source, folder) for source in order.sources]
        for _ in range(2):
            manifest = backup.pack_archive(settings, order, staged, folder)
        for _ in range(2):
            verification = backup.check_archive(settings, order, manifest, folder)
        for store in (*order.stores, *order.stores):
            backup.store_copy(settings, order, manifest, verification, folder, store)
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
        staged = [backup.stage_source(settings, order, source, folder) for source in order.sources]
        manifest = backup.pack_archive(settings, order, staged, folder, advance=packed.append)
        backup.check_archive(settings, order, manifest, folder, advance=checked.append)
    assert sum(packed) == 50_010 and 0 < sum(checked) <= (manifest.archive.bytes if manifest.archive else 0)
