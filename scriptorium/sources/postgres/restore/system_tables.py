"""Finds statements of a foreign dump that write into the server's own tables indirectly: by a function, rule or view.

If a superuser restores, such writes would succeed. Statements that a function composes when it runs cannot be found
here; see docs/postgresql.md.
"""

from __future__ import annotations

import re

from scriptorium.sources.postgres.restore.lexer import Statement

_WRITES = re.compile(
    rb"(?i)\b(?:insert\s+into|merge\s+into|update|delete\s+from)\s+(?:only\s+)?"
    rb"(?:(?:pg_catalog|information_schema)\s*\.\s*\w+|pg_(?!temp)\w+)"
)
_COMMENTS = re.compile(rb"/\*.*?\*/|--[^\n]*", re.DOTALL)
_CODE = frozenset(b"FUNCTION PROCEDURE RULE".split())
_Name = tuple[bytes, bytes]  # schema (may be empty) and name


class Views:
    """The views that a script has made so far. A dump never contains rows of a view."""

    def __init__(self) -> None:
        self._names: set[_Name] = set()

    def judge(self, statement: Statement) -> str:
        """Why the statement is refused; empty if it is allowed."""
        words = statement.words
        if words[0] in (b"INSERT", b"COPY"):
            schema, name = _named(statement, 2 if words[1:2] == (b"INTO",) else 1)
            if any(name == view and (schema == of or not schema or not of) for of, view in self._names):
                return f"has rows of a view: {_shown(name)}"
        if words[0] == b"CREATE" and b"VIEW" in words[1:5] and b"MATERIALIZED" not in words[1:5]:
            self._names.add(_named(statement, words.index(b"VIEW") + 1))
        if words[0] == b"CREATE" and b"RULE" in words[1:4] and {b"SELECT", b"TO"} <= set(words[:12]):
            self._names.add(_named(statement, words.index(b"TO") + 1))  # a table that becomes a view
        return ""


def written_by(statement: Statement) -> str:
    """Why a function, a part of its body, or a rule is refused: it writes into the server's own tables; else empty."""
    words = statement.words
    if not statement.inside and not (words[0] == b"CREATE" and _CODE & set(words[1:4])):
        return ""
    code = [token.value for token in statement.tokens if token.kind in ("body", "string")]
    for text in (*code, b" ".join(token.value for token in statement.tokens)):
        if found := _WRITES.search(_COMMENTS.sub(b" ", text).replace(b'"', b"")):
            return f"writes into the server's own tables: {_shown(found[0])}"
    return ""


def _named(statement: Statement, at: int) -> _Name:
    tokens = statement.tokens[at : at + 5]
    parts = [token.value if token.kind == "name" else token.value.lower() for token in tokens[::2]]
    dots = [token.value == b"." for token in tokens[1::2]]
    count = 1 + (dots[0] if dots else 0) + (all(dots) if len(dots) == 2 else 0)
    used = [b"", *parts[:count]] if parts else [b"", b""]
    return used[-2], used[-1]


def _shown(value: bytes) -> str:
    text = " ".join(value[:80].decode("utf-8", "replace").split())
    return "".join(letter if letter.isprintable() else " " for letter in text)
