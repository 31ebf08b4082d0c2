"""Glob patterns that choose files, with the meaning that users of borg and ``.gitignore`` expect.

    *.tmp          a name, at any depth
    cache/         folders of this name, at any depth
    covers/*.jpg   with a ``/`` inside or in front: relative to the root of the tree
    /config.py     only at the top
    a/**/b         ``**`` stands for any number of folders, also none; ``a/**`` for everything inside ``a``

``*`` and ``?`` never match a ``/``; ``[abc]`` and ``[!abc]`` are sets; ``\\*`` is the character itself. Case counts.
A pattern that cannot match anything (``[z-a]``) is a ``UsageError``. A pattern that matches a folder applies to
everything in it.

A pattern becomes a regular expression without backtracking: each ``*`` ends at the first place where the rest of the
pattern up to the next ``*`` fits, which is as good as any later place. So the time depends on the length of the path
and not on the number of stars (``*a*a*a*a*b``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from scriptorium.errors import UsageError
from scriptorium.limits import LONGEST_PATTERN

_WILD = re.compile(r"[*?\[\\]")


class Pattern:
    """One pattern, compiled."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST_PATTERN:
            raise UsageError("this pattern is longer than any path", on=f"{text[:40]}…")
        self.folders_only = text.endswith("/")
        body = text.removeprefix("./").rstrip("/")
        anchored = "/" in body
        segments = [part for part in body.split("/") if part]
        self.word = "/".join(segments) if segments and not _WILD.search(body) else ""
        self.anchored = anchored
        if not anchored and segments:
            segments.insert(0, "**")
        self._segments = [None if part == "**" else re.compile(_segment(part), re.DOTALL) for part in segments]
        self._whole = re.compile(_joined(segments), re.DOTALL)

    def matches(self, path: str, is_dir: bool) -> bool:
        """Whether the path itself matches (not an ancestor)."""
        return (is_dir or not self.folders_only) and self._whole.fullmatch(path) is not None

    def may_match_below(self, folder: str) -> bool:
        """Whether something inside the folder could match: so the walk does not enter other trees."""
        names = folder.split("/") if folder else []
        for name, segment in zip(names, self._segments, strict=False):
            if segment is None:
                return True
            if not segment.fullmatch(name):
                return False
        return len(names) < len(self._segments)


class Patterns:
    """Several patterns, of which one must match. Plain names are in a dictionary, so thousands of them cost no time."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._names: dict[str, bool] = {}  # name -> whether it matches folders only
        self._paths: dict[str, bool] = {}
        self._globs: list[Pattern] = []
        for pattern in map(Pattern, dict.fromkeys(texts)):
            if not pattern.word:
                self._globs.append(pattern)
                continue
            plain = self._paths if pattern.anchored else self._names
            plain[pattern.word] = pattern.folders_only and plain.get(pattern.word, True)
        self._above = {"", *(above for path in self._paths for above in _ancestors(path))} if self._paths else set()

    def match(self, path: str, is_dir: bool) -> bool:
        """Whether the path itself matches (not an ancestor)."""
        for plain, word in ((self._paths, path), (self._names, path.rpartition("/")[2])):
            if (is_dir or not plain.get(word, True)) and word in plain:
                return True
        return any(pattern.matches(path, is_dir) for pattern in self._globs)

    def hold(self, path: str, is_dir: bool) -> bool:
        """Whether the path, or a folder above it, matches: the meaning of ``--only`` and ``include``."""
        return self.match(path, is_dir) or any(self.match(above, True) for above in _ancestors(path))

    def may_match_below(self, folder: str) -> bool:
        """Whether something inside the folder could match: so the walk does not enter other trees."""
        if self._names or folder in self._above:
            return True
        return any(pattern.may_match_below(folder) for pattern in self._globs)


@functools.lru_cache(maxsize=512)
def compiled(*texts: str) -> Patterns:
    """The patterns, translated once."""
    return Patterns(texts)


def _ancestors(path: str) -> Iterable[str]:
    cut = path.find("/")
    while cut != -1:
        yield path[:cut]
        cut = path.find("/", cut + 1)


def _joined(segments: list[str]) -> str:
    """The regular expression for a whole path; an empty pattern matches nothing."""
    if not segments:
        return r"(?!)"
    groups: list[list[str]] = [[]]  # the names between two ``**``
    for part in segments:
        if part != "**":
            groups[-1].append(_segment(part))
        elif groups[-1] or len(groups) == 1:
            groups.append([])
    first, *others = groups
    if not others:
        return "/".join(first)
    *inner, last = others
    result = "".join(f"{name}/" for name in first)
    for group in inner:
        result += f"(?>(?:[^/]*/)*?{''.join(f'{name}/' for name in group)})"
    return result + (f"(?:[^/]*/)*{'/'.join(last)}" if last else ".+")


def _segment(text: str) -> str:
    """The regular expression for one name."""
    first, *others = _pieces(text)
    if not others:
        return first
    *inner, last = others
    return first + "".join(f"(?>[^/]*?{piece})" for piece in inner if piece) + f"[^/]*{last}"


def _pieces(text: str) -> list[str]:
    """The texts between the stars of one name, each of a fixed length."""
    pieces, at = [""], 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "*":
            pieces.append("")
        elif letter == "?":
            pieces[-1] += "[^/]"
        elif letter == "\\" and at < len(text):
            pieces[-1] += re.escape(text[at])
            at += 1
        elif letter == "[" and (end := _set_end(text, at)) != -1:
            pieces[-1] += _set(text[at:end])
            at = end + 1
        else:
            pieces[-1] += re.escape(letter)
    return pieces


def _set_end(text: str, start: int) -> int:
    """The end of the set that begins at ``start``; a ``]`` in first place belongs to the set. -1: it has no end."""
    first = start + 1 if text[start : start + 1] in ("!", "^") else start
    return text.find("]", first + 1)


def _set(inside: str) -> str:
    negated = inside[0] in "!^"
    letters = inside[1:] if negated else inside
    quoted = re.sub(r"([\\\[\]^&~|])", r"\\\1", letters)
    try:
        re.compile(f"[{quoted}]")
    except re.error:
        raise UsageError(
            f"a range of this pattern runs backwards: [{inside}]", hint="write the lower letter first, like [a-z]"
        ) from None
    return f"(?!/)[^{quoted}]" if negated else f"(?!/)[{quoted}]"
