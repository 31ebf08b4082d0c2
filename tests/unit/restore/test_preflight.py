"""What the preflight of a restore finds: space, engines, servers."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import restore_setup
from restore_setup import Home, supply_of, take

from scriptorium.errors import NoSpace, ToolMissing
from scriptorium.manifest import new_id
from scriptorium.operations.restore import plan_restore
from scriptorium.requests import RestoreRequest
from scriptorium.restore import Preflight, Supply, preflight_in_place
from scriptorium.settings import Settings
from scriptorium.sources import RestoreOptions

home, memory, tmp_path = restore_setup.home, restore_setup.memory, restore_setup.tmp_path  # fixtures of these tests
_TOO_LARGE = 1 << 60  # bytes


def larger(supply: Supply, path: str) -> Supply:
    """The same, with one file that is too large for any disk."""
    manifest = supply.manifest
    entries = manifest.files.entries
    assert entries is not None and path in {entry.path for entry in entries}
    resized = tuple(dataclasses.replace(one, size=_TOO_LARGE) if one.path == path else one for one in entries)
    parts = tuple(
        dataclasses.replace(part, bytes=part.bytes + _TOO_LARGE) if part.source == "data" else part
        for part in manifest.parts
    )
    files = dataclasses.replace(manifest.files, entries=resized)
    return dataclasses.replace(supply, manifest=dataclasses.replace(manifest, files=files, parts=parts))


def plan_of(home: Any, supply: Supply) -> Preflight:
    return preflight_in_place(home.settings.library(), supply, new_id())


@pytest.mark.parametrize(
    ("only", "fits"),
    [
        ((), False),
        (("data",), False),
        (("data/uploads/*",), False),
        (("data/covers/a.jpg",), True),
        (("etc", "data/covers"), True),
    ],
)
def test_space_is_needed_for_what_is_chosen_alone(home: Home, only: tuple[str, ...], fits: bool) -> None:
    supply = larger(supply_of(home.settings, only=only), "data/uploads/c.txt")
    plan = plan_of(home, supply)
    row = next(row for row in plan.rows if row.what == "space")
    if fits:
        plan.require()
        assert row.found.startswith("39.1 KiB needed" if "covers/a" in only[0] else "41.0 KiB needed")
    else:
        with pytest.raises(NoSpace):
            plan.require()
    unlisted = dataclasses.replace(supply.manifest.files, entries=None, member="files.jsonl")
    whole = dataclasses.replace(supply, manifest=dataclasses.replace(supply.manifest, files=unlisted))
    with pytest.raises(NoSpace):  # what is not listed is taken to be wanted
        plan_of(home, whole).require()


def test_the_safety_backup_needs_space_too(home: Home) -> None:
    settings, supply = home.settings, supply_of(home.settings)
    library = settings.library()

    def rows(saving: Settings | None) -> dict[str, str]:
        plan = preflight_in_place(library, supply, new_id(), saving=saving)
        plan.require()
        return {row.what: row.found for row in plan.rows}

    assert "space for the safety backup" not in rows(None)
    assert rows(None)["space"].startswith("41.0 KiB needed")
    with_it = rows(settings)
    assert with_it["space for the safety backup"].startswith("about 41.0 KiB at")
    assert with_it["space"].startswith("82."), "what was saved lies there still when the rest is staged"
    for safety in (True, False):
        plan = plan_restore(settings, RestoreRequest(reference="latest", safety=safety))
        assert ("space for the safety backup" in {row.what for row in plan.preflight.rows}) == safety
    larger = settings.model_copy(update={"space_factor": 1e13})
    before = sorted(home.folder.rglob("*"))
    with pytest.raises(NoSpace) as caught:
        rows(larger)
    assert "--no-safety" in caught.value.hint and caught.value.exit_code == 7
    assert sorted(home.folder.rglob("*")) == before
    shutil.rmtree(home.data / "covers")
    (home.folder / "app.conf").unlink()
    assert rows(larger)["space for the safety backup"].startswith("not known: "), (
        "another row names what else is missing"
    )


@pytest.fixture
def bibliotheca(place: Any) -> Any:
    take(place.settings)
    return place


def saved_by(supply: Supply, version: str) -> Supply:
    parts = tuple(
        dataclasses.replace(part, engine_version=version) if part.kind == "kuzu" else part
        for part in supply.manifest.parts
    )
    return dataclasses.replace(supply, manifest=dataclasses.replace(supply.manifest, parts=parts))


def test_a_database_of_another_engine_is_known_beforehand(bibliotheca: Any, old_kuzu: Path) -> None:
    supply = supply_of(bibliotheca.settings)

    def engine_row(supply: Supply) -> str:
        plan = plan_of(bibliotheca, supply)
        plan.require()
        return next(row.found for row in plan.rows if row.what == "kuzu: engine")

    assert "saved by 0.11" in engine_row(supply)
    with pytest.raises(ToolMissing) as caught:
        plan_of(bibliotheca, saved_by(supply, "0.10.0")).require()
    assert caught.value.exit_code == 6 and "saved by kuzu 0.10.0" in str(caught.value)
    assert "kuzu==0.10.0" in caught.value.hint and "--from-export" in caught.value.hint
    assert "anew" in engine_row(
        dataclasses.replace(saved_by(supply, "0.10.0"), options=RestoreOptions.chosen({"rebuild": True}))
    )
    assert "saved by 0.99" in engine_row(saved_by(supply, "0.99.0")), "whether it reads that is seen when it is opened"
    text = bibliotheca.config.read_text()
    bibliotheca.config.write_text(
        text.replace('home = "library"', f'home = "library"\nkuzu = {{ engine = "{old_kuzu}" }}')
    )
    assert "kuzu 0.10.0, saved by 0.10.0" in engine_row(saved_by(supply, "0.10.0"))
    with pytest.raises(ToolMissing, match=r"whose storage kuzu 0\.10\.0 does not read"):
        plan_of(bibliotheca, supply).require()
