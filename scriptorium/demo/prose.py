"""Text without meaning in bulk, that costs a compressor what real text costs it.

Words drawn at random would not do: gzip spends two to three times as long on them as on prose. What makes real text
easier are its repeated turns of phrase. Measured at gzip's levels 6 and 9: documentation 29 to 35 and 16 to 20 MiB/s
at a ratio of 3.8, this 26 and 20 at 3.8; words without phrases 15 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random

_STARTS = (*"tnsrhdlcmwfgpbvkjxzq", "th", "st", "ch", "sh", "br", "tr", "pl", "str", "nd", "ng", "nt")
_VOWELS = (*"eaoiu", "ea", "ou", "io", "y", "ai")
_WORDS = 30_000
_PHRASES = 20_000
_LINE = 80  # words of a line …
_PHRASES_IN_LINE = 24  # … of which so many are a phrase instead


def prose(chance: Random, size: int) -> bytes:
    """About ``size`` bytes of ASCII text, at least; the same ``chance`` gives the same text."""
    parts: list[str] = []
    written = 0
    for line in _lines(chance):
        parts.append(line)
        written += len(line)
        if written >= size:
            return "".join(parts).encode()
    raise AssertionError("lines never end")


def _lines(chance: Random) -> Iterator[str]:
    words = _vocabulary(chance)
    weights = list(accumulate(1 / (rank + 5) ** 0.9 for rank in range(len(words))))
    phrases = [" ".join(chance.choices(words, cum_weights=weights, k=chance.randint(3, 7))) for _ in range(_PHRASES)]
    common = list(accumulate(1 / (rank + 1) ** 1.3 for rank in range(len(phrases))))
    while True:
        steps = chance.choices(words, cum_weights=weights, k=_LINE)
        chosen = chance.choices(phrases, cum_weights=common, k=_PHRASES_IN_LINE)
        for place, phrase in zip(chance.sample(range(_LINE), _PHRASES_IN_LINE), chosen, strict=True):
            steps[place] = phrase
        yield " ".join(steps).capitalize() + ".\n"


def _vocabulary(chance: Random) -> list[str]:
    """Words, the short ones first: they will be the frequent ones."""
    starts = list(accumulate(1 / (rank + 1) ** 0.5 for rank in range(len(_STARTS))))
    vowels = list(accumulate(1 / (rank + 1) ** 0.7 for rank in range(len(_VOWELS))))
    found: dict[str, None] = {}
    while len(found) < _WORDS:
        syllables = chance.choice((1, 1, 2, 2, 2, 3, 3, 4))
        first = chance.choices(_STARTS, cum_weights=starts, k=syllables + 1)
        second = chance.choices(_VOWELS, cum_weights=vowels, k=syllables)
        word = "".join(map("".join, zip(first, second, strict=False)))
        found[word + (first[-1] if chance.random() < 0.6 else "")] = None
    return sorted(found, key=lambda word: (len(word) + 4 * chance.random(), word))
