"""Glob patterns that choose files, with the meaning that users of borg and ``.gitignore`` expect.

    *.tmp          a name, at any depth
    cache/         folders of this name, at any depth
    covers/*.jpg   with a ``/`` inside or in front: relative to the root of the tree
    /config.py     only at the top
    a/**/b         ``**`` stands for any number of folders, also none; ``a/**`` for everything inside ``a``

``*`` and ``?`` never match a ``/``; ``[abc]`` and ``[!abc]`` are sets; ``\\*`` is the character itself. Case counts.
What matches a folder holds for everything below it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable


class Pattern:
    """One pattern, ready to be asked."""

    def __init__(self, text: str) -> None:
        self.folders_only = text.endswith("/")
        body = text.removeprefix("./").rstrip("/")
        anchored = "/" in body
        segments = [part for part in body.split("/") if part]
        if not anchored and segments:
            segments.insert(0, "**")
        self._segments = [None if part == "**" else re.compile(_segment(part), re.DOTALL) for part in segments]
        self._whole = re.compile(_joined(segments), re.DOTALL)

    def matches(self, path: str, is_dir: bool) -> bool:
        """Whether the path itself matches (not an ancestor)."""
        return (is_dir or not self.folders_only) and self._whole.fullmatch(path) is not None

    def may_match_below(self, folder: str) -> bool:
        """Whether something inside the folder could match: keeps the walk out of trees that nobody asked for."""
        names = folder.split("/") if folder else []
        for name, segment in zip(names, self._segments, strict=False):
            if segment is None:
                return True
            if not segment.fullmatch(name):
                return False
        return len(names) < len(self._segments)


@functools.lru_cache(maxsize=512)
def compiled(text: str) -> Pattern:
    """The pattern, translated once."""
    return Pattern(text)


def matches(pattern: str, path: str, is_dir: bool) -> bool:
    """Whether the path, or a folder that it lies in, matches: what ``--only`` and ``include`` ask."""
    ready = compiled(pattern)
    if ready.matches(path, is_dir):
        return True
    return any(ready.matches(above, True) for above in _ancestors(path))


def _ancestors(path: str) -> Iterable[str]:
    cut = path.find("/")
    while cut != -1:
        yield path[:cut]
        cut = path.find("/", cut + 1)


def _joined(segments: list[str]) -> str:
    """The regular expression for a whole path; an empty pattern matches nothing."""
    if not segments:
        return r"(?!)"
    result = ""
    for place, part in enumerate(segments):
        last = place == len(segments) - 1
        if part == "**":
            result += ".+" if last else "(?:.*/)?"
        else:
            result += _segment(part) + ("" if last else "/")
    return result


def _segment(text: str) -> str:
    """The regular expression for one name."""
    result, at = "", 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "*":
            result += "[^/]*"
        elif letter == "?":
            result += "[^/]"
        elif letter == "\\" and at < len(text):
            result += re.escape(text[at])
            at += 1
        elif letter == "[" and (end := _set_end(text, at)) != -1:
            result += _set(text[at:end])
            at = end + 1
        else:
            result += re.escape(letter)
    return result


def _set_end(text: str, start: int) -> int:
    """Where the set that begins at ``start`` is closed; a ``]`` that stands first belongs to it. -1: nowhere."""
    first = start + 1 if text[start : start + 1] in ("!", "^") else start
    return text.find("]", first + 1)


def _set(inside: str) -> str:
    negated = inside[0] in "!^"
    letters = inside[1:] if negated else inside
    quoted = re.sub(r"([\\\[\]^&~|])", r"\\\1", letters)
    try:
        re.compile(f"[{quoted}]")
    except re.error:  # a range that runs backwards matches nothing
        return r"(?!)"
    return f"(?!/)[^{quoted}]" if negated else f"(?!/)[{quoted}]"
