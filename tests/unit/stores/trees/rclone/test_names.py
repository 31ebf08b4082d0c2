"""Which names rclone takes as they are."""

from __future__ import annotations

import os

import pytest

from scriptorium.stores.trees.rclone.names import is_plain


@pytest.mark.parametrize("path", ["data/a b.epub", "data/é ü $&+?#%*[x]", "data/.hidden", "data/日本"])
def test_plain_names(path: str) -> None:
    assert is_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        os.fsdecode(b"data/\xff"),
        "data/two\nlines",
        "data/ in front",
        "behind /data",
        "data/\u201b quoted",
        "data/\uff0f",
        "data/" + "x" * 250,
    ],
)
def test_names_that_rclone_would_change(path: str) -> None:
    assert not is_plain(path)
