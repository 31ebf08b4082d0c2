"""How members are named to borg."""

from __future__ import annotations

import os
import re

import pytest

from scriptorium.model import FileEntry
from scriptorium.stores.trees.borg.items import as_printed, item_of, patterns_of
from scriptorium.stores.trees.record import Line, Place

PLACE = Place("data", "/srv/data", "/srv/data", single=False)


def line(path: str) -> Line:
    return Line(FileEntry(path, "file", 1, 0o600, 0), 0, 0, 0, "", "")


def test_an_item_is_called_by_its_path_unless_a_carriage_return_is_in_it() -> None:
    assert item_of(PLACE, line("data/a\nb")) == "srv/data/a\nb"
    renamed = item_of(PLACE, line("data/a\rb"))
    assert re.fullmatch(r"renamed/[0-9a-f]{32}", renamed) and renamed != item_of(PLACE, line("data/a\rc"))
    assert as_printed(os.fsdecode(b"\xff\xc3 \xc3\xa9")) == "?? é"


@pytest.mark.parametrize("item", ["a\nb", " a", "a ", os.fsdecode(b"\xff"), "a\U0001f600\n", "#", "a*[b]", "plain"])
def test_a_pattern_means_one_path(item: str) -> None:
    with patterns_of([item]) as (word,), open(word.partition("=")[2], newline="\n", encoding="utf-8") as file:  # noqa: PTH123
        first, last = file.read().splitlines()
    assert last == "- re:."
    if first.startswith("+ pf:"):
        assert first[5:] == item
    else:
        assert re.search(first[5:], item) and not re.search(first[5:], item + "x")
