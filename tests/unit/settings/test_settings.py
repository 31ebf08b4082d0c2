"""Settings: what their paths mean, what they answer, and the example that knows them all."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from settings_texts import SMALL, Write, complaint

from scriptorium.errors import NotFound
from scriptorium.presets import PRESETS
from scriptorium.settings import Library, Settings, load
from scriptorium.sources import FilesSource, KuzuSource, PostgresSource
from scriptorium.words import BackupType, Role, Tier

EXAMPLE = Path(__file__).parents[3] / "scriptorium.example.toml"


# --- paths ------------------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_file(alone: Path, write: Write, tmp_path: Path) -> None:
    file = write(
        'workspace = "work"\n'
        '[libraries.b]\npreset = "bibliotheca"\nhome = "b"\ndata = "d"\ndatabase_file = "d/k/books.db"\n'
        'kuzu = { quiesce = { pid_file = "app.pid" } }\n'
        "[libraries.o]\nsources = [\n"
        '  { name = "g", kind = "kuzu", path = "g.db", engine = "old-kuzu" },\n'
        '  { name = "u", kind = "files", path = "../u" },\n'
        ']\n[stores.s]\nkind = "local"\npath = "s"\n'
    )
    found = load(file, {})
    kuzu, data, config = found.library("b").sources
    assert isinstance(kuzu, KuzuSource) and kuzu.path == tmp_path / "d/k/books.db" and kuzu.quiesce is not None
    assert kuzu.place == "data/k/books.db" and kuzu.quiesce.pid_file == tmp_path / "app.pid"
    assert isinstance(data, FilesSource) and data.path == tmp_path / "d"
    assert isinstance(config, FilesSource) and config.path == tmp_path / "b"
    graph, uploads = found.library("o").sources
    assert isinstance(graph, KuzuSource) and (graph.path, graph.engine) == (tmp_path / "g.db", tmp_path / "old-kuzu")
    assert isinstance(uploads, FilesSource) and os.path.realpath(uploads.path) == str(tmp_path.parent / "u")
    assert found.store("s").location("x") == str(tmp_path / "s/x") and found.workspace_folder == tmp_path / "work"


@pytest.mark.parametrize(
    "line",
    [
        "path = 5",
        'path = ["a"]',
        "path = true",
        'path = "a\\u0000b"',
        'path = ""',
        "path = 2026-01-01",
        "path = {}",
    ],
)
def test_what_is_no_path_is_refused(write: Write, line: str) -> None:
    complaint(write, SMALL + f'[stores.s]\nkind = "local"\n{line}\n')
    complaint(write, f'[libraries.o]\nsources = [{{ name = "u", kind = "files", {line} }}]\n')
    complaint(write, f'[libraries.b]\npreset = "bibliotheca"\n{line.replace("path", "home")}\n')
    complaint(write, f"{line.replace('path', 'workspace')}\n{SMALL}")


# --- what is asked of them --------------------------------------------------------------------------------------------


def test_a_library_is_found_by_name_or_alone(write: Write) -> None:
    one = load(write(SMALL), {})
    assert one.library().name == one.library("other").name == "other"
    two = load(write(SMALL + SMALL.replace("other", "more")), {})
    with pytest.raises(NotFound) as caught:
        two.library()
    assert "other, more" in caught.value.hint and caught.value.exit_code == 5
    with pytest.raises(NotFound, match="no such library"):
        one.library("nobody")
    with pytest.raises(NotFound) as caught:
        one.store("nobody")
    assert "configured: local" in caught.value.hint


def test_a_tier_names_the_stores_and_the_user_overrides_them(write: Write) -> None:
    stores = "".join(f'[stores.{name}]\nkind = "local"\npath = "/mnt/{name}"\n' for name in "abc")
    found = load(write(SMALL + stores + '[tiers.daily]\nto = ["b", "a"]\ntype = "kuzu_only"\n'), {})
    assert [store.name for store in found.targets(Tier.DAILY)] == ["b", "a"]
    assert [store.name for store in found.targets(Tier.WEEKLY)] == ["a", "b", "c"]
    assert [store.name for store in found.targets(Tier.DAILY, ("c", "c"))] == ["c"]
    assert found.tiers[Tier.DAILY].type is BackupType.DATABASE
    with pytest.raises(NotFound):
        found.targets(Tier.DAILY, ("d",))


@pytest.mark.parametrize(
    "type, names",
    [
        (BackupType.FULL, ["kuzu", "data", "config"]),
        (BackupType.DATA, ["kuzu", "data"]),
        (BackupType.DATABASE, ["kuzu"]),
        (BackupType.CONFIG, ["config"]),
    ],
)
def test_a_type_chooses_sources_and_the_database_comes_first(write: Write, type: BackupType, names: list[str]) -> None:
    library = load(write('[libraries.b]\npreset = "bibliotheca"\nhome = "/srv/b"\n'), {}).library()
    assert [source.name for source in library.sources_of(type)] == names


def test_a_type_that_fits_no_source_of_the_library_is_reported(write: Write) -> None:
    with pytest.raises(NotFound) as caught:
        load(write(SMALL), {}).library().sources_of(BackupType.DATABASE)
    assert "up (files)" in caught.value.hint


def test_a_source_can_be_given_another_role(write: Write) -> None:
    text = SMALL.replace('kind = "files"', 'kind = "files", role = "config"')
    (source,) = load(write(text), {}).library().sources_of(BackupType.CONFIG)
    assert source.role is Role.CONFIG


def test_the_workspace_is_inside_the_first_local_store(write: Write) -> None:
    stores = '[stores.a]\nkind = "local"\npath = "/mnt/a"\n[stores.b]\nkind = "local"\npath = "/mnt/b"\n'
    assert load(write(SMALL + stores), {}).workspace_folder == Path("/mnt/a/.scriptorium")


def test_what_a_database_is_restored_from_outlives_a_restart_of_the_machine(write: Write, tmp_path: Path) -> None:
    named = f'{{ name = "b", kind = "postgres", database = "postgresql://x/b", staging = "{tmp_path / "other"}" }}'
    sources = f'[{{ name = "a", kind = "postgres", database = "postgresql://x/a" }}, {named}]'
    found = load(write(f'workspace = "work"\n[libraries.l]\nsources = {sources}\n'), {})
    places = [source.staging for source in found.library().sources if isinstance(source, PostgresSource)]
    assert places == [found.workspace_folder / "unpacked", tmp_path / "other"]


def test_a_tree_of_files_leaves_a_database_in_it_alone(write: Write) -> None:
    text = (
        '[libraries.o]\nsources = [{ name = "g", kind = "kuzu", path = "/srv/o/g.db" },'
        ' { name = "all", kind = "files", path = "/srv/o" }]\n[stores.s]\nkind = "local"\npath = "/srv/o/backups"\n'
    )
    found = load(write(text), {})
    graph, everything = found.library().sources
    assert set(found.never_of(found.library(), everything)) == {
        Path("/srv/o/backups"),
        Path("/srv/o/backups/.scriptorium"),
        *(Path(f"/srv/o/g.db{ending}") for ending in ("", ".wal", ".shadow", ".tmp")),
    }
    assert found.never_of(found.library(), graph) == found.never


# --- the example ------------------------------------------------------------------------------------------------------


def test_the_example_is_a_configuration() -> None:
    found = load(EXAMPLE, {})
    assert set(found.libraries) >= {"bibliotheca", "other"} and found.store("local").location("x") == "/srv/backups/x"
    plain = load_plain()
    assert (found.keep, found.compression, found.space_factor) == (plain.keep, plain.compression, plain.space_factor)
    assert (found.enabled, found.email, found.workspace) == (plain.enabled, plain.email, plain.workspace)


def load_plain() -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scriptorium.toml"
        file.write_text(SMALL)
        return load(file, {})


def models(annotation: object) -> Iterator[type[BaseModel]]:
    """Every model that a settings file can fill."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
            for extra in field.metadata:
                yield from models(extra)
    else:
        for part in get_args(annotation):
            yield from models(part)


def test_the_example_mentions_every_setting() -> None:
    """Every setting must be in the example: a new field fails here until it is there."""
    text = EXAMPLE.read_text()
    tomllib.loads(text)
    silent = {"origin", "doubts", "remarks"}  # ours, for messages
    wanted = {name for model in set(models(Settings)) for name in model.model_fields} - silent
    wanted |= {key for known in PRESETS.values() for key in known.keys}
    missing = {name for name in wanted if not re.search(rf"(?<![A-Za-z_]){re.escape(name)}(?![A-Za-z_])", text)}
    assert not missing
    assert Library in set(models(Settings)) and KuzuSource in set(models(Settings))
