"""The command as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Answer:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def run_tool(*argv: str | Path, env: Mapping[str, str], cwd: Path, stdin: str = "", timeout: float = 240) -> Answer:
    done = subprocess.run(
        [str(word) for word in argv],
        env=dict(env),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of somebody who has set nothing of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCRIPTORIUM"))}
    return {**kept, "PREFECT_HOME": str(home / "prefect"), "XDG_CONFIG_HOME": str(home / "config"), "COLUMNS": "200"}


@pytest.fixture
def scriptorium(place: Any, server: str) -> Callable[..., Answer]:
    """Call ``scriptorium`` with words, in the folder of ``place``."""
    env = {**clean_environment(place.folder), "PREFECT_API_URL": server}

    def call(*words: str | Path, stdin: str = "", **more: str) -> Answer:
        return run_tool(BIN / "scriptorium", *words, env={**env, **more}, cwd=place.folder, stdin=stdin)

    return call
