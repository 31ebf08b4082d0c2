"""Something happens between two steps of a recipe, or a step is done twice: no test copies the recipe itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


def before(monkeypatch: pytest.MonkeyPatch, operation: ModuleType, step: str, action: Callable[..., object]) -> None:
    """``action`` is done before the step, with the step's own arguments."""
    real = getattr(operation, step)

    @functools.wraps(real)
    def wrapped(*given: Any, **named: Any) -> Any:
        action(*given, **named)
        return real(*given, **named)

    monkeypatch.setattr(operation, step, wrapped)


def after(monkeypatch: pytest.MonkeyPatch, operation: ModuleType, step: str, action: Callable[..., object]) -> None:
    """``action`` is done after the step, with what the step returned."""
    real = getattr(operation, step)

    @functools.wraps(real)
    def wrapped(*given: Any, **named: Any) -> Any:
        made = real(*given, **named)
        action(made)
        return made

    monkeypatch.setattr(operation, step, wrapped)


def twice(monkeypatch: pytest.MonkeyPatch, operation: ModuleType, step: str) -> None:
    """The step is done twice, as in a task that is retried; the result of the second try counts."""
    real = getattr(operation, step)

    @functools.wraps(real)
    def wrapped(*given: Any, **named: Any) -> Any:
        real(*given, **named)
        return real(*given, **named)

    monkeypatch.setattr(operation, step, wrapped)
