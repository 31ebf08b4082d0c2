"""Kinds of sources are named in ``sources/`` and the presets alone: another kind needs no change anywhere else.

What one kind has that another lacks is an ability (``sources/abilities.py``), or a field or property of its record.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from scriptorium.model.manifest import PLAIN_FILES
from scriptorium.sources import FilesSource, KuzuSource, PostgresSource

ROOT = Path(__file__).parents[2]
_FOLDERS = ("scriptorium", "flows", "tasks")
_MAY = ("scriptorium/sources/", "scriptorium/presets/", "scriptorium/demo/")
_WRITTEN = {
    "scriptorium/manifest/naming.py",  # the word in the names of archives of version 1
    "scriptorium/operations/adopt/relocation.py",  # a folder in Bibliotheca's archives
}
_KINDS = {one.model_fields["kind"].default for one in (FilesSource, KuzuSource, PostgresSource)}


def named(source: str) -> Iterator[str]:
    """The kinds that the code names. ``files`` is also another word: it counts where it is compared."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            constants = [one.value for one in (node.left, *node.comparators) if isinstance(one, ast.Constant)]
            yield from (one for one in constants if one in _KINDS)
        elif isinstance(node, ast.Constant) and node.value in _KINDS - {PLAIN_FILES}:
            yield node.value


def test_kinds_are_named_below_the_seam_alone() -> None:
    files = {str(file.relative_to(ROOT)): file for folder in _FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))}
    above = {path: file for path, file in files.items() if not path.startswith(_MAY) and path not in _WRITTEN}
    assert len(above) > 150
    found = {path: sorted({*named(file.read_text("utf-8"))}) for path, file in above.items()}
    assert {path: kinds for path, kinds in found.items() if kinds} == {}


def test_a_kind_that_is_named_is_found() -> None:
    """The test above must be able to fail."""
    assert [*named('part.kind == "files" or one["files"]')] == ["files"]
    assert {*named('KIND = "postgres"\nkinds.count("kuzu")')} == {"postgres", "kuzu"}


def test_the_kind_of_plain_files_is_the_sources() -> None:
    assert FilesSource.model_fields["kind"].default == PLAIN_FILES
