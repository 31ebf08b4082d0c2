"""Results are made for people and programs in one place: the command line prints what ``report`` makes."""

from __future__ import annotations

import ast
from pathlib import Path

CLI = Path(__file__).parents[3] / "scriptorium" / "cli"
_OWN = {"output.py"}  # it prints
_SHORT = 3  # an answer of so many words, such as {"id": ..., "pinned": True}, needs no function


def made_here(text: str) -> list[int]:
    """Lines on which a document or rows are written out, where they are printed or before."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("put_json", "table", "put_pairs")
        ):
            for one in ast.walk(node):
                wide = isinstance(one, ast.Dict) and (len(one.keys) > _SHORT or node.func.id != "put_json")
                if wide:
                    found.append(node.lineno)
    return found


def test_no_command_makes_its_own_rows_and_documents() -> None:
    files = [file for file in sorted(CLI.glob("*.py")) if file.name not in _OWN]
    assert len(files) > 6
    assert {file.name: lines for file in files if (lines := made_here(file.read_text("utf-8")))} == {}


def test_rows_that_a_command_makes_are_found() -> None:
    """The test above must be able to fail."""
    assert made_here('table([{"Name": one} for one in found])') != []
    assert made_here('put_json({"a": 1, "b": 2, "c": 3, "d": 4})') != []
    assert made_here('put_pairs({"backup": name})') != []
    assert made_here('put_json({"id": id, "pinned": True})') == []
