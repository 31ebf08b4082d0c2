"""The laboratory of Kuzu writers, and the last Kuzu of the folder layout."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    if "kuzu_lab" not in sys.modules:
        spec = importlib.util.spec_from_file_location("kuzu_lab", _TESTS / "kuzu_lab.py")
        assert spec is not None and spec.loader is not None
        sys.modules["kuzu_lab"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["kuzu_lab"])
    return sys.modules["kuzu_lab"]


@pytest.fixture(scope="session")
def old_kuzu(lab: ModuleType) -> Path:
    """A folder with kuzu 0.10.0 in it."""
    try:
        return Path(lab.old_engine(_TESTS.parent / ".cache"))
    except OSError as error:
        pytest.skip(f"kuzu 0.10.0 cannot be had: {error}")


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
    """A small library with two backups in two stores; the living data has gone on since."""
    template, place = _built
    yield _beside("matrix").copied(template, tmp_path / "house", place, _beside("driver"))
    shutil.rmtree(tmp_path, ignore_errors=True)
