"""The sources and the stores that the suites run on."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scriptorium.model import Staged
from scriptorium.stores import Store

_TESTS = Path(__file__).resolve().parents[1]


def _plain(name: str) -> ModuleType:
    """A plain module of the tests, loaded once; from then on the tests of this folder import it by its name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _TESTS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_rigs, _rooms = _plain("source_rigs"), _plain("store_rooms")
Packed, Rig, Room = Any, Any, Any  # classes of the two


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _stop_server() -> Iterator[None]:
    yield
    _rigs.stop_server()


@pytest.fixture(params=_rigs.RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path, lab: ModuleType) -> Rig:
    return _rigs.RIGS[request.param](tmp_path, lab)


@pytest.fixture
def take(rig: Rig, tmp_path: Path) -> Callable[[], Staged]:
    numbers = iter(range(100))

    def taken() -> Staged:
        stage = tmp_path / f"stage{next(numbers)}"
        stage.mkdir()
        return rig.staged(stage)

    return taken


@pytest.fixture
def packed(take: Callable[[], Staged], tmp_path: Path) -> Packed:
    return _rigs.Packed(take(), tmp_path / "packed")


# --- stores -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=_rooms.ROOMS)
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    return _rooms.ROOMS[request.param](tmp_path)


@pytest.fixture
def store(room: Room) -> Store:
    room.store.prepare()
    return room.store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "staged.tar.gz"
    path.write_bytes(os.urandom(300_000))
    return path
