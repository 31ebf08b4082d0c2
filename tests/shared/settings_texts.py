"""Settings as the tests write them, and the messages about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scriptorium.errors import SettingsError
from scriptorium.settings import load

SMALL = '[libraries.other]\nsources = [{ name = "up", kind = "files", path = "/srv/up" }]\n'

Write = Callable[[str], Path]


def raised(call: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        call()
    assert caught.value.exit_code == 2
    return f"{caught.value} | {caught.value.hint}"


def complaint(write: Write, text: str, **variables: str) -> str:
    return raised(lambda: load(write(text), variables))
