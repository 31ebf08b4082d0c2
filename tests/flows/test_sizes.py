"""A flow reads as its recipe: its body is short, and so are the bodies of tasks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bodies(folder: str, decorator: str) -> Iterator[tuple[str, int]]:
    """The functions with the decorator, and the lines of their bodies without docstring, comments and empty lines."""
    for file in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(_name(one) == decorator for one in node.decorator_list):
                has_docstring = ast.get_docstring(node) is not None
                inside = [part for statement in node.body[has_docstring:] for part in ast.walk(statement)]
                lines = {
                    line
                    for part in inside
                    if isinstance(part, ast.stmt | ast.expr) and part.end_lineno is not None
                    for line in (part.lineno, part.end_lineno)
                }
                yield f"{folder}.{file.stem}.{node.name}", len(lines)


def _name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.id if isinstance(called, ast.Name) else ""


@pytest.mark.parametrize(("folder", "decorator", "most"), [("flows", "flow", 20), ("tasks", "task", 15)])
def test_bodies_are_short(folder: str, decorator: str, most: int) -> None:
    found = dict(bodies(folder, decorator))
    assert len(found) >= 8
    assert {name: lines for name, lines in found.items() if lines > most} == {}
