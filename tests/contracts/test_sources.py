"""One suite for every source: what it saves is restored, and what was there before can be put back.

The sources are those of ``RIGS`` in tests/shared/source_fixtures.py. No test below may ask for the kind of a source.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from source_fixtures import RESTORE, Packed, Rig, brought, leftovers

from scriptorium.errors import NotFound, RestoreFailed, SourceUnavailable
from scriptorium.model import Staged
from scriptorium.sources import AS_CONFIGURED, FilesSource, KuzuSource, PostgresSource, RestoreOptions, abilities
from scriptorium.sources.base import Source
from scriptorium.sources.kuzu.options import KuzuRestoreOptions
from scriptorium.sources.postgres.options import PostgresRestoreOptions

EVERY_OPTION = RestoreOptions(
    kuzu=KuzuRestoreOptions(rebuild=True),
    postgres=PostgresRestoreOptions(clean=True, without_roles=True, without_broken_constraints=True),
)


def test_a_survey_reports_what_is_there_and_changes_nothing(rig: Rig) -> None:
    before = rig.contents()
    found = rig.source.survey(())
    assert found.bytes > 0 and found.files > 0
    assert rig.contents() == before


def test_a_missing_source_is_reported(rig: Rig, take: Callable[[], Staged]) -> None:
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


def test_the_same_contents_have_the_same_fingerprints_and_others_have_others(
    rig: Rig, take: Callable[[], Staged]
) -> None:
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
    assert leftovers(rig) == []


def test_into_a_folder(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    before = rig.contents()
    incoming = brought(rig, packed, into=tmp_path / "elsewhere")
    # A database that is not files is restored into a folder as the files of its dump, which nothing has opened.
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
    assert leftovers(rig) == []
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
    with rig.hold() as pid:
        assert [holder.pid for holder in rig.source.holders()] == [pid]
        assert str(pid) in str(next(rig.source.holders()))
    until = time.monotonic() + 5  # a server may take a moment to end a session
    while list(rig.source.holders()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(rig.source.holders()) == []


def test_preflight_reports_what_a_restore_needs_and_changes_nothing(rig: Rig, packed: Packed) -> None:
    before = rig.contents()
    for options in (AS_CONFIGURED, EVERY_OPTION):
        found = {what: look() for what, look in rig.source.preconditions(packed.part, options).items()}
        assert found and all(found.values())
    assert rig.contents() == before and leftovers(rig) == []


def test_options_of_other_kinds_change_nothing(rig: Rig, packed: Packed) -> None:
    others = {kind: getattr(EVERY_OPTION, kind) for kind in RestoreOptions.model_fields if kind != rig.source.kind}
    before = rig.contents()
    rig.change()
    incoming = brought(rig, packed, options=RestoreOptions.model_validate(others))
    assert incoming.load() == packed.part.tables
    incoming.switch()
    incoming.finish()
    assert rig.contents() == before


def test_an_undo_takes_the_way_of_the_journal(rig: Rig, packed: Packed) -> None:
    """Whatever the settings are at that time: the journal's record alone, as JSON, restores the source to its place."""
    record = json.loads(json.dumps(dict(rig.source.journal_record())))
    assert record and all(isinstance(value, bool | str) for value in record.values())
    moved = rig.source.as_recorded(record)
    assert moved.journal_record() == record
    before = rig.contents()
    rig.change()
    changed = rig.contents()
    incoming = brought(rig, packed)
    incoming.load()
    incoming.switch()
    assert rig.contents() == before
    moved.incoming(packed.part, RESTORE).undo()
    assert rig.contents() == changed


def test_every_source_can_be_rehearsed(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    before = rig.contents()
    incoming = abilities.rehearsal(rig.source, packed.part, RESTORE, tmp_path)
    try:
        incoming.prepare()
        packed.unpack(incoming)
        assert incoming.load() == packed.part.tables
    finally:
        incoming.undo()
    assert rig.contents() == before and leftovers(rig) == []


def test_every_ability_can_be_asked_of_every_source(rig: Rig, tmp_path: Path) -> None:
    """The callers of ``abilities`` know no kinds: each question has an answer for each source."""
    source = rig.source
    path = abilities.living_path(source)
    assert (path is None) == (rig.folder is None)
    assert path is None or path.is_relative_to(rig.folder or "")
    assert all(
        claimed.is_relative_to(path or "") or claimed.parent == (path or claimed).parent
        for claimed in abilities.claims_of(source)
    )
    assert abilities.with_scratch(source, tmp_path).name == source.name
    assert abilities.tidy(source) == ()
    renamed = abilities.renamed(source, "another")
    assert renamed is None or (renamed.name, renamed.kind, renamed.place) == (source.name, source.kind, source.place)
    assert abilities.pausable(source) is None, "nothing in these settings says how"
    assert abilities.has_exclusive([source]) == bool(abilities.looks_at([source]))


def test_no_method_of_the_protocol_is_for_one_kind_alone() -> None:
    kinds: list[Any] = [FilesSource, KuzuSource, PostgresSource]
    methods = [name for name, value in vars(Source).items() if inspect.isfunction(value) and not name.startswith("_")]
    assert {"survey", "capture", "examine", "incoming", "holders"} < set(methods)
    for name in methods:
        idle = [kind.__name__ for kind in kinds if _does_nothing(getattr(kind, name))]
        assert len(idle) < 2, f"{name} does nothing in {idle}: that is for an optional protocol"


def _does_nothing(method: Callable[..., object]) -> bool:
    """Whether its body is only a docstring, ``...``, ``pass`` or an empty result."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(method))).body
    assert isinstance(function, ast.FunctionDef)
    body = [ast.unparse(one) for one in function.body if not isinstance(one, ast.Expr) or not _is_text(one.value)]
    return set(body) <= {"return self", "return None", "return ()", "return {}", "yield from ()", "pass", "..."}


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def test_configuration_is_frozen_and_strict(rig: Rig) -> None:
    source: Any = rig.source
    with pytest.raises(ValidationError):
        source.name = "other"
    with pytest.raises(ValidationError):
        type(source).model_validate({**source.model_dump(), "nmae": "x"})
    assert type(source).model_validate(source.model_dump()) == source
