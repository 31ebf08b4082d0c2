"""Taking a backup, step by step: its name, its stores, and its contents."""

from __future__ import annotations

import dataclasses
import stat
import tarfile
from typing import Any

import backup_setup
import pytest
from backup_setup import NOW, Home
from recipe_steps import after, twice

from scriptorium.catalog import Catalog
from scriptorium.errors import LibraryBusy, NotFound, UsageError
from scriptorium.model import Survey
from scriptorium.operations import backup
from scriptorium.operations.backup import plan_backup, running
from scriptorium.requests import BackupRequest
from scriptorium.sources import FilesSource
from scriptorium.words import BackupType, Compression, Status, Tier

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_what_was_asked_for(home: Home) -> None:
    plan = plan_backup(home.settings, BackupRequest(name=" before the move ", description=" why\n"), now=NOW)
    assert (plan.library, plan.type, plan.tier) == ("lib", BackupType.FULL, Tier.MANUAL)
    assert (plan.name, plan.description) == ("before the move", "why")
    assert plan.created_at == NOW.replace(microsecond=0) and len(plan.id) == 12
    assert plan.sources == ("data", "conf") and plan.stores == ("local", "second")
    assert plan.label == "full_20260102_030405" and plan.compression is Compression.GZIP
    listed = plan.backup(Status.RUNNING)
    assert (listed.id, listed.name, listed.copies, listed.status) == (plan.id, plan.name, (), Status.RUNNING)


def test_a_plan_without_a_name_is_called_like_its_copies(home: Home) -> None:
    plan = plan_backup(home.settings, BackupRequest(type=BackupType.CONFIG, compression=Compression.ZSTD), now=NOW)
    assert plan.name == plan.label == "config_20260102_030405"
    assert plan.sources == ("conf",)


@pytest.mark.parametrize("name", ["a\nb", "x" * 201, "\x1b[31mred", "latest", " latest "])
def test_a_name_that_would_be_in_the_way_is_refused(home: Home, name: str) -> None:
    with pytest.raises(UsageError):
        plan_backup(home.settings, BackupRequest(name=name))


def test_stores_are_the_chosen_ones_once_each_and_must_be_known(home: Home) -> None:
    assert plan_backup(home.settings, BackupRequest(to=["second", "second"])).stores == ("second",)
    with pytest.raises(NotFound) as caught:
        plan_backup(home.settings, BackupRequest(to=["local", "third"]))
    assert "configured: local, second" in caught.value.hint
    with pytest.raises(NotFound):
        plan_backup(home.settings, BackupRequest(library="nobody"))
    with pytest.raises(NotFound, match="nothing that a 'database' backup would contain"):
        plan_backup(home.settings, BackupRequest(type=BackupType.DATABASE))


def test_backups_of_the_same_second_get_names_of_their_own(home: Home) -> None:
    settings = home.settings
    expected = [f"full_20260102_030405{tie}.tar.gz" for tie in ("", "-2", "-3")]
    for name in expected:
        plan = plan_backup(settings, BackupRequest(to=["local"]), now=NOW)
        assert f"{plan.label}.tar.gz" == name
        backup.take(settings, plan)
    assert [name for name in home.names() if name.endswith(".gz")] == sorted(expected)
    assert plan_backup(settings, BackupRequest(to=["second"]), now=NOW).label == "full_20260102_030405"
    assert plan_backup(settings, BackupRequest(), now=NOW).label == "full_20260102_030405-4"
    assert len(Catalog(settings).backups()) == 3


def test_a_plan_whose_name_was_taken_since_it_was_made_does_not_replace_the_other(home: Home) -> None:
    settings = home.settings
    first, second = plan_backup(settings, BackupRequest(), now=NOW), plan_backup(settings, BackupRequest(), now=NOW)
    assert first.label == second.label
    backup.take(settings, first)
    with pytest.raises(LibraryBusy, match="in the same second"), running(settings, second):
        pass
    assert [one.id for one in Catalog(settings).backups()] == [first.id]


def test_a_store_that_does_not_answer_is_planned_for_anyway(home: Home) -> None:
    (home.folder / "second").write_text("not a folder")
    assert plan_backup(home.settings, BackupRequest()).stores == ("local", "second")


# --- a backup ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", list(Compression))
def test_a_backup_is_in_every_store_verified_and_nothing_else_is_left(home: Home, compression: Compression) -> None:
    settings = home.settings
    plan = plan_backup(settings, BackupRequest(compression=compression), now=NOW)
    taken = backup.take(settings, plan)
    for store in ("local", "second"):
        assert home.names(store) == [
            plan.label + compression.ending + ending for ending in ("", ".json", ".marks.json")
        ]
        for path in home.store(store).iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (listed,) = Catalog(settings).backups()
    assert listed == taken.backup and listed.status is Status.VERIFIED and listed.parts == ("data", "conf")
    assert [copy.verified_at is not None for copy in listed.copies] == [True, True]
    assert home.staging() == [] and Catalog(settings).find("latest", store="second").id == plan.id
    first, second = (home.store(store) / f"{plan.label}{compression.ending}" for store in ("local", "second"))
    assert not first.samefile(second) and first.read_bytes() == second.read_bytes()


def test_an_archive_holds_the_parts_and_never_the_store(home: Home) -> None:
    settings = home.settings
    plan = plan_backup(settings, BackupRequest(to=["local"]))
    backup.take(settings, plan)
    again = plan_backup(settings, BackupRequest(to=["local"]))
    backup.take(settings, again)
    with tarfile.open(home.store() / f"{again.label}.tar.gz") as tar:
        names = tar.getnames()
    assert names[0] == "backup_metadata.json" and names[-2:] == ["manifest.json", "SHA256SUMS"]
    assert [name for name in names[1:-2]] == ["data", "data/covers", "data/covers/a.jpg", "data/notes.txt", "conf"]


def test_the_files_of_a_database_are_not_taken_from_under_it_by_a_tree(home: Home) -> None:
    """The copy of the files would be inconsistent, and a restore would replace the sound copy with them."""
    for ending in ("", ".wal", ".shadow"):
        (home.folder / "data" / f"g.db{ending}").write_bytes(b"a living database")
    text = home.file.read_text().replace(
        "sources = [", 'sources = [{ name = "graph", kind = "kuzu", path = "data/g.db" }, '
    )
    home.file.write_text(text)
    settings = home.settings
    plan = dataclasses.replace(plan_backup(settings, BackupRequest(to=["local"])), sources=("data",))
    manifest = backup.take(settings, plan).manifest
    assert manifest.files.entries is not None
    assert [entry.path for entry in manifest.files.entries] == [
        "data",
        "data/covers",
        "data/covers/a.jpg",
        "data/notes.txt",
    ]


def test_a_step_can_be_tried_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are retried: each step finds what its first try left, and the result is the same."""
    settings = home.settings
    for step in ("stage_source", "read_sources", "check_packages", "store_copy"):
        twice(monkeypatch, backup, step)
    backup.backup(settings, BackupRequest())
    (listed,) = Catalog(settings).backups()
    assert listed.status is Status.VERIFIED and len(listed.copies) == 2
    for store in ("local", "second"):
        assert len(home.names(store)) == 3 and list(settings.store(store).objects.leftovers()) == []


def test_bytes_are_counted_while_they_are_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    advanced: list[int] = []
    packed: list[int] = []
    after(monkeypatch, backup, "read_sources", lambda _: packed.append(sum(advanced)))
    taken = backup.backup(home.settings, BackupRequest(to=["local"]), advance=advanced.append)
    assert packed == [50_010] and 50_010 < sum(advanced) <= 50_010 + taken.backup.bytes


class Counted:
    """How often each source was surveyed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.surveys: list[str] = []
        real = FilesSource.survey

        def survey(source: FilesSource, *given: Any, **named: Any) -> Survey:
            self.surveys.append(source.name)
            return real(source, *given, **named)

        monkeypatch.setattr(FilesSource, "survey", survey)


def test_each_source_is_surveyed_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A survey reads a whole tree: of a library of a terabyte that takes minutes."""
    counted = Counted(monkeypatch)
    backup.backup(home.settings, BackupRequest())
    assert sorted(counted.surveys) == ["conf", "data"]
