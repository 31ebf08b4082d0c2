"""What a pattern means: a table, and two rules that hold for every name."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptorium.errors import UsageError
from scriptorium.members.patterns import Pattern, compiled

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
    assert compiled(pattern).match(path, folder) is expected


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
    assert compiled(pattern).hold(path, False) is expected


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
        assert compiled(escaped).match(path, False)
    assert not compiled(escaped).match(f"x/{path}", False)


@given(st.text(max_size=12), paths)
def test_every_pattern_can_be_asked(pattern: str, path: str) -> None:
    try:
        ready = compiled(pattern)
    except UsageError as error:
        assert "backwards" in error.what
        return
    ready.hold(path, False)
    ready.may_match_below(path)


@pytest.mark.parametrize("pattern", ["[z-a]", "a/[b-a]/**", "*[!9-0]", "[a-c-b-a]", "[\\-[]x[z-a]"])
def test_a_range_that_runs_backwards_is_an_error(pattern: str) -> None:
    with pytest.raises(UsageError, match="runs backwards"):
        compiled("*.tmp", pattern)


@given(paths, st.text("ab*?[]!/", max_size=8))
def test_what_matches_below_a_folder_is_reached(path: str, pattern: str) -> None:
    ready = compiled(pattern)
    if ready.match(path, False):
        parts = path.split("/")
        assert all(ready.may_match_below("/".join(parts[:depth])) for depth in range(len(parts)))


def written_as_before(pattern: str) -> re.Pattern[str]:
    """What a pattern means, by a regular expression with backtracking, as the first implementation had it."""
    body = pattern.removeprefix("./").rstrip("/")
    segments = [part for part in body.split("/") if part]
    if "/" not in body and segments:
        segments.insert(0, "**")
    if not segments:
        return re.compile("(?!)")
    whole = ""
    for place, part in enumerate(segments):
        last = place == len(segments) - 1
        if part == "**":
            whole += ".+" if last else "(?:.*/)?"
            continue
        at = 0
        while at < len(part):
            letter, at = part[at], at + 1
            if letter in "*?":
                whole += "[^/]*" if letter == "*" else "[^/]"
            elif letter == "\\" and at < len(part):
                whole, at = whole + re.escape(part[at]), at + 1
            elif part[at - 1 :].startswith(("[ab]", "[!a]")):
                whole, at = whole + ("(?!/)[ab]" if letter + part[at] == "[a" else "(?!/)[^a]"), at + 3
            else:
                whole += re.escape(letter)
        whole += "" if last else "/"
    return re.compile(whole, re.DOTALL)


bits = st.sampled_from(["a", "b", "*", "**", "?", "/", "/**/", "**/", "[ab]", "[!a]", "\\*", "ab", "\n"])
short_paths = st.lists(st.text("ab*\n", min_size=1, max_size=4), min_size=1, max_size=5).map("/".join)


@settings(max_examples=500, deadline=None)
@given(st.lists(bits, max_size=9).map("".join), short_paths, st.booleans())
def test_the_meaning_is_that_of_the_plain_translation(pattern: str, path: str, folder: bool) -> None:
    expected = written_as_before(pattern).fullmatch(path) is not None and (folder or not pattern.endswith("/"))
    assert compiled(pattern).match(path, folder) is expected


@settings(deadline=None)
@given(st.lists(st.lists(bits, max_size=4).map("".join), max_size=4), short_paths, st.booleans())
def test_several_patterns_are_each_of_them(patterns: list[str], path: str, folder: bool) -> None:
    together = compiled(*patterns)
    assert together.match(path, folder) is any(compiled(one).match(path, folder) for one in patterns)
    assert together.hold(path, folder) is any(compiled(one).hold(path, folder) for one in patterns)
    alone = [Pattern(one).may_match_below(path) for one in patterns]
    assert together.may_match_below(path) is any(alone)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 60 + "b", "a" * 255),
        ("?*" * 60 + "b", "a" * 255),
        ("*[ab]" * 60 + "c", "ab" * 127),
        ("**/a/" * 60 + "b", "a/" * 2000 + "c"),
        ("**/*a*/" * 60 + "b", "aa/" * 1300 + "c"),
        ("*a" * 60 + "/**/" + "*a" * 60 + "b", "a" * 255 + "/a" * 1900),
        ("**/" + "*/" * 500 + "b", "a/" * 2000 + "c"),
    ],
)
def test_many_stars_take_no_more_time_than_one(pattern: str, path: str) -> None:
    began = time.process_time()
    assert not compiled(pattern).hold(path[:200], False)
    assert not compiled(pattern).match(path, False)
    compiled(pattern).may_match_below(path)
    assert time.process_time() - began < 2


def test_thousands_of_names_take_no_time() -> None:
    together = compiled(*(f"name-{number}" for number in range(5000)), *(f"/a/{number}/" for number in range(5000)))
    began = time.process_time()
    for number in range(10_000):
        assert together.match(f"x/name-{number}", False) is (number < 5000)
        assert together.match(f"a/{number}", True) is (number < 5000)
    assert time.process_time() - began < 2
