"""The laboratory of Kuzu writers, and the last Kuzu of the folder layout."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

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
