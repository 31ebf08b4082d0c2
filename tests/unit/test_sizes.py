"""A file is split before 400 lines, a function before 70: nobody reads longer ones completely."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS = ("scriptorium", "flows", "tasks", "tests", "benchmarks", "deployments")
_LONGEST_FILE = 400
_LONGEST_FUNCTION = 70


def long_functions(source: str) -> Iterator[str]:
    """The functions that are too long, their docstrings included. Their parameters do not count: those of a command
    are its options, one a line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if node.end_lineno - node.body[0].lineno + 1 > _LONGEST_FUNCTION:
                yield node.name


def test_no_file_and_no_function_is_long() -> None:
    files = [file for folder in _FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    texts = {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in files}
    assert len(texts) > 500
    assert {path: len(text.splitlines()) for path, text in texts.items() if text.count("\n") > _LONGEST_FILE} == {}
    functions = {path: [*long_functions(text)] for path, text in texts.items()}
    assert {path: names for path, names in functions.items() if names} == {}


def test_a_long_function_is_found() -> None:
    """The test above must be able to fail; parameters may be many."""
    line, options = "    x = 1\n", "".join(f"    a{number}=1,\n" for number in range(80))
    assert [*long_functions(f"def f():\n{line * 71}")] == ["f"]
    assert [*long_functions(f"def f(\n{options}):\n{line * 70}")] == []
