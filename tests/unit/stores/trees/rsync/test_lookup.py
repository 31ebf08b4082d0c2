"""Which files of a generation count as kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from scriptorium.errors import DamageFound
from scriptorium.model import FileEntry
from scriptorium.stores.trees.corrections import Node
from scriptorium.stores.trees.record import Line, Place
from scriptorium.stores.trees.rsync.folder import Folder
from scriptorium.stores.trees.rsync.lookup import GenerationLookup

PLACE = Place("data", "/srv/data", "/srv/data", False)


def test_a_piece_of_a_file_is_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    names = {"whole": 5 * 10**9, "piece": 792_585_551, "old": 1}
    for name, mtime in names.items():
        (tmp_path / "data" / name).write_text(name)
        os.utime(tmp_path / "data" / name, ns=(mtime, mtime))
    wanted = {"whole": 6 * 10**9, "piece": 6 * 10**9, "old": 1, "missing": 1}
    files = {
        f"data/{name}": (PLACE, Line(FileEntry(f"data/{name}", "file", 9, 0o600, mtime, "hash"), 0, 0, 0, "", ""))
        for name, mtime in wanted.items()
    }
    lookup = GenerationLookup(Folder(tmp_path, "here"), "")
    assert lookup.nodes(files) == {"data/whole": Node(5, 5 * 10**9), "data/old": Node(3, 1)}
    assert lookup.digest(*files["data/whole"]) == (5, hashlib.sha256(b"whole").hexdigest())
    (tmp_path / "data" / "whole").unlink()
    with pytest.raises(DamageFound, match="vanished in the store"):
        lookup.digest(*files["data/whole"])
