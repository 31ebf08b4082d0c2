"""The table of faults agrees with the tests: every row has its test, and every test its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs" / "faults.md").read_text("utf-8")
RIGS = {"rig", "database_setup", "kind_of_rig"}  # fixtures that end with the check of every row (``Rig.close``)
NEED_NO_LIBRARY = {"test_nothing_waits_where_nothing_is_armed"}
ELSEWHERE = {"test_hot_snapshots.py", "test_document.py"}  # docs/snapshots.md, and this one


def defined(files: list[Path]) -> set[str]:
    return {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}


def rows() -> list[str]:
    lines = [line for line in TABLE.splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("| fault", "|---"))]


def test_every_row_names_tests_that_exist() -> None:
    everything = defined(sorted(TESTS.rglob("test_*.py")))
    assert len(rows()) > 25
    for row in rows():
        named = re.findall(r"`(test_\w+)`", row.split("|")[-2])
        assert named, f"no test: {row}"
        assert set(named) <= everything, f"no such test: {set(named) - everything}"
    assert set(re.findall(r"`(test_\w+)`", TABLE)) <= everything


def test_every_test_of_the_matrix_has_its_row() -> None:
    files = [file for file in sorted(Path(__file__).parent.glob("test_*.py")) if file.name not in ELSEWHERE]
    missing = [name for name in sorted(defined(files)) if f"`{name}`" not in "\n".join(rows())]
    assert missing == []


def test_every_row_ends_with_the_same_check() -> None:
    """Every copy passes ``verify``, and nothing that was complete is lost: the fixtures check it, in one place."""
    arguments: dict[str, set[str]] = {}
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                arguments[node.name] = {one.arg for one in node.args.args}
    named = set(re.findall(r"`(test_\w+)`", "\n".join(rows())))
    assert len(named) > 40
    without = {name for name in named - NEED_NO_LIBRARY if not arguments.get(name, set()) & RIGS}
    assert without == set(), "a row of the table whose test is elsewhere, or looks after nothing"
