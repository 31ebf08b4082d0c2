"""A restored folder is compared with its manifest: each kind of difference has its word."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.model import Manifest, Tree
from scriptorium.restore import compare_files


@pytest.fixture
def restored(archives: Any, tmp_path: Path) -> tuple[Manifest, Path]:
    tree = tmp_path / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "a").write_bytes(b"a")
    (tree / "sub" / os.fsdecode(b"\xff")).write_bytes(b"odd")
    (tree / "link").symlink_to("./a//b/.")  # as it was written, not as it could be
    (tree / "again").hardlink_to(tree / "a")
    packed = archives.pack(Tree(root=str(tree), at="data"))
    target = tmp_path / "restored"
    archives.unpack(packed, target)
    return packed.manifest, target


def test_what_is_equal_is_equal(restored: tuple[Manifest, Path]) -> None:
    manifest, root = restored
    assert compare_files(manifest, root) == ()
    (root / "more").write_bytes(b"is not asked for")
    assert compare_files(manifest, root) == ()


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing file: data/a": ("data/a", lambda path: path.unlink()),
    "missing file: data/sub/empty": ("data/sub/empty", lambda path: path.rmdir()),
    "missing file: data/link": ("data/link", lambda path: path.unlink()),
    "not a folder: data/sub/empty": ("data/sub/empty", lambda path: (path.rmdir(), path.write_bytes(b""))),
    "different link: data/link": ("data/link", lambda path: relink(path, "a/b")),
    "not a file: data/a": ("data/a", lambda path: relink(path, "again")),
}


@pytest.mark.parametrize("expected", CHANGES)
def test_what_is_different_is_named(restored: tuple[Manifest, Path], expected: str) -> None:
    manifest, root = restored
    path, change = CHANGES[expected]
    change(root / path)
    assert [str(finding) for finding in compare_files(manifest, root)] == [expected]


def test_other_contents_are_found_whatever_the_name(restored: tuple[Manifest, Path]) -> None:
    manifest, root = restored
    (root / "data" / "sub" / os.fsdecode(b"\xff")).write_bytes(b"Odd")
    (finding,) = compare_files(manifest, root)
    assert finding.subject == "data/sub/\udcff" and "differ" in finding.verdict


def test_a_list_that_is_kept_in_the_archive_cannot_be_compared_from_here(restored: tuple[Manifest, Path]) -> None:
    manifest, root = restored
    kept = dataclasses.replace(manifest.files, entries=None, member="files.jsonl")
    with pytest.raises(ValueError, match="not in the manifest itself"):
        compare_files(dataclasses.replace(manifest, files=kept), root)
