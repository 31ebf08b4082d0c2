"""docs/runbook.md for its tests: chapters that are run with values of the test's own."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import console_blocks as console

import scriptorium as package

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PATH = DOCS / "runbook.md"
_BIN = Path(sys.executable).parent


BOOK = console.chapters(PATH)
Outcomes = list[console.Outcome]


def shell(home: Path) -> dict[str, str]:
    """The environment of somebody who has the packages that pip would install, and the programs of this checkout."""
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    paths = [str(Path(package.__file__).parents[1]), sysconfig.get_paths()["purelib"]]
    return {
        **kept,
        "PATH": f"{_BIN}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(paths),
        "HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PIP_NO_INDEX": "1",  # what pip would install is there; nothing is downloaded
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "COLUMNS": "200",
    }


def perform(
    number: str, values: Mapping[str, str], folder: Path, env: Mapping[str, str], *later: Mapping[str, str]
) -> Outcomes:
    """Run the document's variables and then a chapter; output is checked where the chapter shows it.

    ``later``: the values for further blocks of variables, in order.
    """
    waiting = iter([values, *later])
    steps = [*console.expand(BOOK, "Variables"), *console.expand(BOOK, number)]
    blocks = [console.assigned(block, next(waiting)) if block.variables else block for _, block in steps]
    assert next(waiting, None) is None, "more values than blocks of variables"
    own = {command.line for chapter, block in steps if chapter == number for command in block.commands}
    outcomes: Outcomes = console.run(blocks, folder, env)
    for outcome in outcomes:
        where = f"{PATH.name}:{outcome.command.line}"
        assert outcome.status == 0, f"{where}: {outcome.command.text}\n{outcome.output}"
        lacking = console.missing(outcome) if outcome.command.line in own else None
        assert lacking is None, f"{where}: does not say '{lacking}' but\n{outcome.output}"
    return outcomes
