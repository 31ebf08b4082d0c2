"""The laboratory of Kuzu writers."""

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
