"""Counts how often each source is surveyed. A survey reads a whole tree: for a terabyte that takes minutes."""

from __future__ import annotations

from typing import Any

import pytest

from scriptorium.model import Survey


def counted(monkeypatch: pytest.MonkeyPatch, *kinds: type[Any]) -> list[str]:
    """The names of the sources of these kinds that are surveyed from now on, once for each time."""
    seen: list[str] = []
    for kind in kinds:

        def survey(source: Any, *given: Any, real: Any = kind.survey, **named: Any) -> Survey:
            seen.append(source.name)
            found: Survey = real(source, *given, **named)
            return found

        monkeypatch.setattr(kind, "survey", survey)
    return seen
