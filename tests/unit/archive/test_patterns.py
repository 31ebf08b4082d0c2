"""What a pattern means: a table, and two rules that hold for every name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptorium.archive import matches
from scriptorium.archive.patterns import compiled

# pattern, path, is a folder, matches by itself
TABLE = [
    ("*.tmp", "a.tmp", False, True),
    ("*.tmp", "x/y/a.tmp", False, True),
    ("*.tmp", "a.tmp.txt", False, False),
    ("*.tmp", ".tmp", False, True),
    ("cache", "x/cache", True, True),
    ("cache", "x/cached", True, False),
    ("cache/", "x/cache", True, True),
    ("cache/", "x/cache", False, False),
    ("/config.py", "config.py", False, True),
    ("/config.py", "x/config.py", False, False),
    ("./config.py", "config.py", False, True),
    ("covers/*.jpg", "covers/a.jpg", False, True),
    ("covers/*.jpg", "x/covers/a.jpg", False, False),
    ("covers/*.jpg", "covers/x/a.jpg", False, False),
    ("covers/**/*.jpg", "covers/a.jpg", False, True),
    ("covers/**/*.jpg", "covers/x/y/a.jpg", False, True),
    ("covers/**", "covers/x/y", False, True),
    ("covers/**", "covers", True, False),
    ("**/a", "a", False, True),
    ("**/a", "x/y/a", False, True),
    ("a/**/b", "a/b", False, True),
    ("a/**/b", "a/xb", False, False),
    ("**", "anything/at all", False, True),
    ("a?c", "abc", False, True),
    ("a?c", "a/c", False, False),
    ("[abc].txt", "b.txt", False, True),
    ("[!abc].txt", "b.txt", False, False),
    ("[!abc].txt", "d.txt", False, True),
    ("x[!a]y", "x/y", False, False),
    ("[]x]", "]", False, True),
    ("[0-9]", "7", False, True),
    ("[9-0]", "7", False, False),
    ("[open", "[open", False, True),
    ("\\*", "*", False, True),
    ("\\*", "a", False, False),
    ("a.b", "axb", False, False),
    ("A", "a", False, False),
    ("a b", "a b", False, True),
    ("*", "new\nline", False, True),
    ("caf\u00e9*", "caf\u00e9s", False, True),
    ("\udcff*", "\udcffx", False, True),
    ("", "a", False, False),
    ("/", "a", True, False),
    ("a||b", "a||b", False, True),
    ("[a&&b]", "&", False, True),
]


@pytest.mark.parametrize(("pattern", "path", "folder", "expected"), TABLE)
def test_meaning(pattern: str, path: str, folder: bool, expected: bool) -> None:
    assert compiled(pattern).matches(path, folder) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("data/covers", "data/covers/x/a.jpg", True),
        ("covers/", "data/covers/a.jpg", True),
        ("covers/", "data/covers", False),
        ("*.jpg", "data/a.jpg/inside", True),
        ("data", "database", False),
    ],
)
def test_what_matches_a_folder_holds_below_it(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path, False) is expected


@pytest.mark.parametrize(
    ("pattern", "folder", "expected"),
    [
        ("/config.py", "data", False),
        ("data/covers/*.jpg", "data", True),
        ("data/covers/*.jpg", "data/covers", True),
        ("data/covers/*.jpg", "data/other", False),
        ("data/covers/*.jpg", "data/covers/deep", False),
        ("*.jpg", "anything/deep", True),
        ("a/**/b", "a/x/y", True),
        ("a/**/b", "b", False),
    ],
)
def test_where_a_match_is_possible(pattern: str, folder: str, expected: bool) -> None:
    assert compiled(pattern).may_match_below(folder) is expected


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(paths)
def test_an_escaped_path_matches_itself_and_no_longer_one(path: str) -> None:
    escaped = "/" + "".join(f"\\{letter}" if letter in "*?[\\" else letter for letter in path)
    if path.startswith("./") or path.split("/")[-1] == "":
        return
    if "**" not in path.split("/"):
        assert compiled(escaped).matches(path, False)
    assert not compiled(escaped).matches(f"x/{path}", False)


@given(st.text(max_size=12), paths)
def test_every_pattern_can_be_asked(pattern: str, path: str) -> None:
    matches(pattern, path, False)
    compiled(pattern).may_match_below(path)


@given(paths, st.text("ab*?[]!/", max_size=8))
def test_what_matches_below_a_folder_is_reached(path: str, pattern: str) -> None:
    ready = compiled(pattern)
    if ready.matches(path, False):
        parts = path.split("/")
        assert all(ready.may_match_below("/".join(parts[:depth])) for depth in range(len(parts)))
