"""One suite for every source: what it brings out comes back, and what was there can be put back.

Those are the sources of ``RIGS`` in tests/shared/source_fixtures.py. No test below may ask for the kind of a source.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from source_fixtures import RESTORE, Packed, Rig, brought, leavings

from scriptorium.errors import NotFound, RestoreFailed, SourceUnavailable
from scriptorium.model import Staged


def test_a_survey_says_what_is_there_and_changes_nothing(rig: Rig) -> None:
    before = rig.contents()
    found = rig.source.survey(())
    assert found.bytes > 0 and found.files > 0
    assert rig.contents() == before


def test_what_is_not_there_is_said(rig: Rig, take: Callable[[], Staged]) -> None:
    rig.remove()
    for ask in (lambda: rig.source.survey(()), take):
        with pytest.raises((NotFound, SourceUnavailable)) as missing:
            ask()
        assert missing.value.on and missing.value.hint
    assert list(rig.source.holders()) == []


def test_a_snapshot_names_its_part(rig: Rig, take: Callable[[], Staged]) -> None:
    before = rig.contents()
    staged = take()
    assert (staged.source, staged.kind, staged.path) == (rig.source.name, rig.source.kind, rig.source.place)
    assert staged.started_at <= staged.finished_at and staged.started_at.tzinfo is not None
    assert staged.method
    assert all(Path(tree.root).exists() and Path(tree.root).is_absolute() for tree in staged.trees)
    assert staged.trees[0].at == staged.path
    assert rig.contents() == before


def test_the_same_contents_have_the_same_facts_and_others_have_others(rig: Rig, take: Callable[[], Staged]) -> None:
    first, second = take(), take()
    assert first.tables == second.tables
    rig.change()
    if first.tables is not None:
        assert take().tables != first.tables


def test_in_place_and_back(rig: Rig, packed: Packed) -> None:
    before = rig.contents()
    rig.change()
    changed = rig.contents()
    assert changed != before
    incoming = brought(rig, packed)
    assert incoming.load() == packed.part.tables
    assert rig.contents() == changed or rig.folder is not None, "nothing living is touched before the switch"
    incoming.switch()
    incoming.finish()
    assert rig.contents() == before
    assert leavings(rig) == []


def test_into_a_folder(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    before = rig.contents()
    incoming = brought(rig, packed, into=tmp_path / "elsewhere")
    # A database that is no files comes into a folder as the files of its dump, which nothing has opened.
    assert incoming.load() == (packed.part.tables if rig.folder else None)
    incoming.switch()
    incoming.finish()
    assert (tmp_path / "elsewhere" / packed.part.path).exists()
    assert rig.contents() == before
    assert not list((tmp_path / "elsewhere").rglob(".scriptorium*"))


@pytest.mark.parametrize("anew", [False, True], ids=["same object", "new object"])
@pytest.mark.parametrize("until", ["prepare", "unpack", "load", "switch"])
def test_undo_from_every_point(rig: Rig, packed: Packed, until: str, anew: bool) -> None:
    rig.change()
    before = rig.contents()
    incoming = rig.source.incoming(packed.part, RESTORE)
    for step in ("prepare", "unpack", "load", "switch"):
        packed.unpack(incoming) if step == "unpack" else getattr(incoming, step)()
        if step == until:
            break
    if anew:
        incoming = rig.source.incoming(packed.part, RESTORE)
    incoming.undo()
    assert rig.contents() == before
    assert leavings(rig) == []
    incoming.undo()
    assert rig.contents() == before


def test_a_restore_that_was_broken_off_can_begin_again(rig: Rig, packed: Packed) -> None:
    before = rig.contents()
    rig.change()
    brought(rig, packed)
    incoming = brought(rig, packed)
    assert incoming.load() == packed.part.tables
    incoming.switch()
    incoming.finish()
    assert rig.contents() == before


def test_members_of_other_parts_are_not_wanted(rig: Rig, packed: Packed) -> None:
    incoming = rig.source.incoming(packed.part, RESTORE)
    for member in (f"{packed.part.path}2", f"{packed.part.path}2/x", "manifest.json", "exports/another/x"):
        assert incoming.receive(member) is None


def test_damage_shows_when_it_is_loaded(rig: Rig, packed: Packed) -> None:
    if packed.part.tables is None:
        pytest.skip("files are compared by their hashes, by the archive")
    before = rig.contents()
    incoming = brought(rig, packed)
    rig.damage(incoming.receive(packed.part.path).parent)
    with contextlib.suppress(RestoreFailed):
        assert incoming.load() != packed.part.tables
    incoming.undo()
    assert rig.contents() == before


def test_a_snapshot_under_writing_can_be_restored(rig: Rig, take: Callable[[], Staged], tmp_path: Path) -> None:
    with rig.writing():
        packed = Packed(take(), tmp_path / "packed")
    incoming = brought(rig, packed, **({"into": tmp_path / "elsewhere"} if rig.folder else {}))
    assert incoming.load() == packed.part.tables
    incoming.undo()


def test_holders_are_named(rig: Rig) -> None:
    assert list(rig.source.holders()) == []
    if rig.hold is None:
        return
    with rig.hold() as pid:
        assert [holder.pid for holder in rig.source.holders()] == [pid]
        assert str(pid) in str(next(rig.source.holders()))
    assert list(rig.source.holders()) == []


def test_configuration_is_frozen_and_strict(rig: Rig) -> None:
    source: Any = rig.source
    with pytest.raises(ValidationError):
        source.name = "other"
    with pytest.raises(ValidationError):
        type(source).model_validate({**source.model_dump(), "nmae": "x"})
    assert type(source).model_validate(source.model_dump()) == source
