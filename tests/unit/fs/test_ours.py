"""Which folders beside living data are ours: the mark in them counts, not the beginning of a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.fs.descriptors import folder_at
from scriptorium.fs.ours import MARKER, is_ours, write_marker

ID = "0123456789ab"


@pytest.mark.parametrize("name", [f".scriptorium-restore-{ID}-data", f".scriptorium-aside-{ID}-a b\nc"])
def test_a_marked_folder_is_ours(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert not is_ours(folder)
    with folder_at(folder) as opened:
        write_marker(opened, ID)
    assert is_ours(folder) and is_ours(str(folder)) and is_ours(bytes(folder))
    (tmp_path / f".scriptorium-restore-{ID}-link").symlink_to(folder)
    assert not is_ours(tmp_path / f".scriptorium-restore-{ID}-link")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".scriptorium-notes", None),
        (".scriptorium-restore-notes", '{"scriptorium": "restore", "id": "0123456789ab"}'),
        (f".scriptorium-restore-{ID}-data", '{"scriptorium": "restore", "id": "ba9876543210"}'),
        (f".scriptorium-restore-{ID}-data", "{"),
        (f".scriptorium-restore-{ID}-data", "[]"),
        (f".scriptorium-restore-{ID}", ""),
        (f"x.scriptorium-restore-{ID}", f'{{"scriptorium": "restore", "id": "{ID}"}}'),
    ],
)
def test_a_folder_of_the_users_is_not(tmp_path: Path, name: str, text: str | None) -> None:
    folder = tmp_path / name
    folder.mkdir()
    if text is not None:
        (folder / MARKER).write_text(text)
    assert not is_ours(folder)


def test_what_an_earlier_version_left_is_ours_by_what_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / f".scriptorium-restore-{ID}-data"
    for name in ("incoming", "former"):
        (folder / name).mkdir(parents=True)
    assert is_ours(folder)


def test_a_file_of_such_a_name_is_not(tmp_path: Path) -> None:
    (tmp_path / f".scriptorium-restore-{ID}-data").write_text("")
    assert not is_ours(tmp_path / f".scriptorium-restore-{ID}-data")
