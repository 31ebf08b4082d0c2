"""The sources and the stores that the suites run on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from source_fixtures import RIGS, Packed, Rig, stop_server
from store_fixtures import STORES, StoreUnderTest

from scriptorium.model import Staged
from scriptorium.stores.objects.base import ObjectStore

# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _stop_server() -> Iterator[None]:
    yield
    stop_server()


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return RIGS[request.param](tmp_path)


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
    return Packed(take(), tmp_path / "packed")


# --- stores -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=STORES)
def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> StoreUnderTest:
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(under_test: StoreUnderTest) -> ObjectStore:
    under_test.store.prepare()
    return under_test.store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "staged.tar.gz"
    path.write_bytes(os.urandom(300_000))
    return path
