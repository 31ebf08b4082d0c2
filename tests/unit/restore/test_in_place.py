"""Restores over the living data of a library of files, with every crash, damage and obstacle."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import restore_setup
from killed_process import dying_before, killed
from restore_setup import (
    Home,
    contents,
    damage,
    in_place,
    recovered,
    saved,
    state_of,
    supply_of,
    take,
)

from scriptorium import workspace
from scriptorium.errors import DamageFound, NotFound, RestoreFailed
from scriptorium.fs.places import Places
from scriptorium.fs.switch import StagingFolder
from scriptorium.operations.undo import finished, plan_undo
from scriptorium.report.restore import undo_report
from scriptorium.requests import UndoRequest
from scriptorium.restore import in_place as in_place_module
from scriptorium.restore import undo
from scriptorium.restore.journal import Journal

home, memory, tmp_path = restore_setup.home, restore_setup.memory, restore_setup.tmp_path  # fixtures of these tests


def test_in_place_what_was_saved_is_back_and_what_was_not_stays(home: Home) -> None:
    before, expected = state_of(home.folder), saved(home)
    backups = contents(home.data / "backups")
    home.change()
    restored = in_place(home.settings, supply_of(home.settings))
    assert restored.place == "in place" and restored.parts == ("data", "conf", "etc")
    after = state_of(home.folder)
    assert after.pop("data/log/app.log")[4] == b"excluded, newer" and before.pop("data/log/app.log")
    assert after == before
    assert saved(home) == expected
    stored = contents(home.data / "backups")
    assert {path: stored.get(path) for path in backups} == backups, "the store inside the tree is not touched"


def test_a_library_that_is_lost_altogether_is_restored(home: Home, tmp_path: Path) -> None:
    """A new machine: the store was brought there, nothing else is."""
    shutil.move(home.data / "backups", tmp_path / "kept")
    text = (home.folder / "scriptorium.toml").read_text().replace("data/backups", str(tmp_path / "kept"))
    (home.folder / "scriptorium.toml").write_text(text)
    expected = saved(home)
    shutil.rmtree(home.data)
    shutil.rmtree(home.folder / "etc")
    (home.folder / "app.conf").unlink()
    in_place(home.settings, supply_of(home.settings))
    assert saved(home) == expected
    assert stat.S_IMODE((home.data / "empty").stat().st_mode) == 0o751


def test_a_part_of_it_in_place_leaves_all_the_rest(home: Home) -> None:
    expected = saved(home)
    home.change()
    before = state_of(home.folder)
    restored = in_place(home.settings, supply_of(home.settings, only=("data/covers/a.jpg", ".env")))
    assert restored.parts == ("data", "etc")
    after = state_of(home.folder)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {"data/covers/a.jpg", "etc/.env"}
    assert (home.data / "covers" / "a.jpg").read_bytes() == expected["data/covers/a.jpg"]


def test_damage_in_the_archive_leaves_the_living_data_untouched(home: Home) -> None:
    home.change()
    damage(home)
    before = state_of(home.folder, ours=True)
    with pytest.raises(DamageFound):
        in_place(home.settings, supply_of(home.settings))
    assert state_of(home.folder) == {path: fact for path, fact in before.items() if path in state_of(home.folder)}
    assert not list(home.folder.rglob(".scriptorium-restore-*")) and recovered(home.settings) == ()


def test_a_part_that_the_settings_no_longer_have_is_reported_first(home: Home) -> None:
    supply = supply_of(home.settings)
    file = home.folder / "scriptorium.toml"
    file.write_text(file.read_text().replace('name = "conf"', 'name = "renamed"'))
    home.change()
    before = state_of(home.folder)
    with pytest.raises(NotFound) as caught:
        in_place(home.settings, supply)
    assert "conf" in str(caught.value) and "--restore-path" in caught.value.hint
    assert state_of(home.folder) == before


def test_what_is_not_well_afterwards_is_undone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.change()

    def unwell() -> None:
        assert (home.data / "uploads" / "c.txt").read_bytes() == b"c", "asked when it is in place"
        raise RestoreFailed("the application does not work")

    restore_setup.ask_health(home, monkeypatch, unwell)
    before = state_of(home.folder)
    with pytest.raises(RestoreFailed, match="does not work"):
        in_place(home.settings, supply_of(home.settings))
    assert state_of(home.folder) == before and recovered(home.settings) == ()


POINTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "preparing: nothing is unpacked": dying_before(in_place_module, "read_parts"),
    "preparing: all is unpacked": dying_before(in_place_module, "load_parts"),
    "preparing: the journal": dying_before(Journal, "enter", 2),
    "switching: no plan": dying_before(StagingFolder, "write_plan", 1),
    "switching: a plan": dying_before(StagingFolder, "apply", 1),
    **{f"switching: rename {number}": dying_before(Places, "rename", number) for number in (2, 3, 4, 6, 9, 12, 14)},
    "switching: one part of three": dying_before(StagingFolder, "write_plan", 2),
    "switching: two parts of three": dying_before(StagingFolder, "apply", 3),
    "switched: not recorded yet": dying_before(Journal, "enter", 3),
    "switched: not kept yet": dying_before(Journal, "enter", 4),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_in_place_the_next_run_puts_back_what_was_there(home: Home, point: str) -> None:
    home.change()
    before = state_of(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS[point]), "the point was never reached"
    message = recovered(settings)
    assert len(message) == 1 and supply.manifest.id in message[0] and "undone" in message[0]
    assert state_of(home.folder) == before
    assert not list(home.folder.rglob(".scriptorium-restore-*")) and recovered(settings) == ()
    in_place(settings, supply)
    assert (home.data / "uploads" / "c.txt").read_bytes() == b"c"


def test_what_an_earlier_version_began_is_undone_and_nothing_is_reported_as_put_back(home: Home) -> None:
    home.change()
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS["switched: not recorded yet"])
    assert plan_undo(settings, UndoRequest()).compares
    (journal,) = (settings.workspace_folder / "restores").iterdir()
    journal_fields = json.loads(journal.read_text())
    del journal_fields["previous"]  # earlier versions wrote it once all was switched
    journal.write_text(json.dumps(journal_fields))
    way = plan_undo(settings, UndoRequest())
    assert way.cut_short and not way.compares
    verdict = undo_report(finished(settings, way, way.backup, None)).verdict
    assert "compared with nothing" in verdict and "is back" not in verdict


@pytest.mark.parametrize("first", ["switching: a plan", "switching: rename 6", "switched: not recorded yet"])
@pytest.mark.parametrize("second", [1, 2, 4])
def test_killed_while_it_is_put_back_the_run_after_that_does_it(home: Home, first: str, second: int) -> None:
    home.change()
    before = state_of(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS[first])
    killed(lambda: recovered(settings), dying_before(Places, "rename", second))
    recovered(settings)
    assert state_of(home.folder) == before and not list(home.folder.rglob(".scriptorium-restore-*"))


def test_a_restore_that_is_killed_after_its_completion_is_kept_and_can_be_undone(home: Home) -> None:
    home.change()
    before = state_of(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), dying_before(in_place_module, "drop_previous"))
    assert recovered(settings) == ()
    assert (home.data / "uploads" / "c.txt").read_bytes() == b"c"
    with workspace.lock(settings, "lib", "undo"):
        assert undo(settings, settings.library()) == supply.manifest.id
    assert state_of(home.folder) == before
    with workspace.lock(settings, "lib", "undo"), pytest.raises(NotFound, match="no previous data"):
        undo(settings, settings.library())


def test_a_backup_undoes_a_restore_that_was_cut_short_before_it_reads(home: Home) -> None:
    home.change()
    before = state_of(home.folder)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS["switching: rename 6"])
    assert take(settings)
    assert state_of(home.folder) == before


def test_a_journal_that_cannot_be_read_stops_everything_until_somebody_looks(home: Home) -> None:
    folder = home.settings.workspace_folder / "restores"
    folder.mkdir()
    for torn in (b"", b"{", b"[]", b"{}"):
        (folder / "lib-0123456789ab.json").write_bytes(torn)
        with pytest.raises(RestoreFailed) as caught:
            recovered(home.settings)
        assert "former" in caught.value.hint


def test_previous_data_of_a_source_that_left_the_settings_is_not_forgotten(home: Home) -> None:
    home.change()
    before = state_of(home.data)
    settings, supply = home.settings, supply_of(home.settings)
    assert killed(lambda: in_place(settings, supply), POINTS["switched: not recorded yet"])
    file = home.folder / "scriptorium.toml"
    text = file.read_text()
    file.write_text(text.replace('name = "conf"', 'name = "renamed"'))
    with pytest.raises(RestoreFailed) as caught:
        recovered(home.settings)
    assert "'conf'" in str(caught.value) and "put the source back" in caught.value.hint
    file.write_text(text)
    recovered(home.settings)
    assert state_of(home.data) == before


@pytest.mark.parametrize("keep", [0, 7])
def test_previous_data_is_kept_for_a_while_or_not_at_all(home: Home, keep: int) -> None:
    file = home.folder / "scriptorium.toml"
    file.write_text(f"keep_previous = {keep}\n" + file.read_text())
    settings = home.settings
    for _ in range(2):
        home.change()
        in_place(settings, supply_of(settings))
        assert bool(list(home.folder.rglob(".scriptorium-restore-*"))) == bool(keep)
    journals = list((settings.workspace_folder / "restores").glob("*.json"))
    assert len(journals) == (1 if keep else 0), "of two restores in a row the newest is kept"
    assert len(list(home.folder.glob(".scriptorium-restore-*-data"))) == (1 if keep else 0)
    if journals:
        fields = json.loads(journals[0].read_text())
        assert fields["state"] == "kept" and stat.S_IMODE(journals[0].stat().st_mode) == 0o600
    again = take(settings)
    manifest = supply_of(settings, again).manifest
    assert manifest.files.entries is not None
    assert not [entry.path for entry in manifest.files.entries if ".scriptorium" in entry.path]
