"""One word for one thing: words that were replaced name nothing in the code any more.

Names that files of earlier versions have (``former`` on the disk) are text and no identifiers; they stay.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS = ("scriptorium", "flows", "tasks", "tests", "benchmarks", "deployments")
_GONE = {
    *("room", "rooms", "workroom", "crashpoint", "prospects", "holdings", "former", "stalling", "conduct", "inflow"),
    *("facts", "moment", "moments", "told", "said", "doomed", "news"),
}
_KEPT = {"keep_former"}  # the name of a setting in files of earlier versions


def old_words(source: str) -> Iterator[str]:
    """The identifiers that have a replaced word among their words."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string not in _KEPT:
            words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", token.string)
            if _GONE & {word.lower() for word in words}:
                yield token.string


def test_replaced_words_name_nothing() -> None:
    files = [file for folder in _FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 300
    found = {str(file.relative_to(ROOT)): sorted({*old_words(file.read_text("utf-8"))}) for file in files}
    assert {file: names for file, names in found.items() if names} == {}


def test_a_replaced_word_is_found() -> None:
    """The test above must be able to fail."""
    assert [*old_words("def find_room(former: FormerData) -> None: ...")] == ["find_room", "former", "FormerData"]
    assert [*old_words("reformer = 'former'  # room")] == []
