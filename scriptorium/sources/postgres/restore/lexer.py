"""Splits SQL into statements as ``psql`` and the server do, so that no part of a literal is taken for a word.

Literals, quoted names, dollar quotes, nested comments and the data of ``COPY … FROM stdin`` are recognised by the rules
of PostgreSQL's own lexer (src/backend/parser/scan.l, src/fe_utils/psqlscan.l). If these rules are ambiguous, or differ
between versions, it is an error here (``Unreadable``): nothing can be hidden in a doubtful text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import eq
from typing import NamedTuple, Protocol

_BLOCK = 1 << 20
_AHEAD = 2  # bytes behind a token that may make it another one
_LARGEST = 1 << 30  # bytes of one statement; PostgreSQL takes no more itself
_START = r"A-Za-z_\x80-\xff"
_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\n\r\f\v]++|--[^\n\r]*+) |
    (?P<comment>/\*) |
    (?P<escape>[eE]') |
    (?P<unicode>[uU]&["']) |
    (?P<string>[bBxX]') |
    (?P<plain>[nN]?') |
    (?P<name>") |
    (?P<dollar>\$(?:[{_START}][{_START}0-9]*+)?\$) |
    (?P<word>[{_START}][{_START}0-9$]*+) |
    (?P<number>(?:0[xXoObB][0-9A-Fa-f_]++|(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9_]++)?|\$[0-9]++)
        (?![{_START}0-9'])) |
    (?P<tag>\$[{_START}][{_START}0-9]*+(?=\Z)) |
    (?P<command>\\) |
    (?P<sign>[^0-9'"\x00])
    """.encode("latin-1"),
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = re.compile(rb"[eEnN]?'(?:[^'\\]++|\\.|'')*+'", re.DOTALL)
_QUOTED = {
    "escape": _ESCAPES,
    "string": re.compile(rb"[bBxX]'(?:[^']++|'')*+'", re.DOTALL),
    "plain": re.compile(rb"[nN]?'(?:[^']++|'')*+'", re.DOTALL),  # with standard_conforming_strings
    "name": re.compile(rb'"(?:[^"]++|"")*+"', re.DOTALL),
}
_COMMENT = re.compile(rb"/\*|\*/")
_KEY = re.compile(rb"\\(?:un)?restrict[ \t]++[A-Za-z0-9]++[ \t]*+\r?(?=\n|\Z)")
_CONNECT = re.compile(rb"\\(?:connect|encoding) [^\n]*+(?=\n|\Z)")
_COMMAND = re.compile(rb"\\[^\s\\]{0,40}")
_REST_OF_LINE = re.compile(rb"[ \t\r]*+(?:\n|\Z)")
_LAST_LINE = b"\n\\."
_END_OF_DATA = re.compile(rb"\n\\\.\r?(?:\n|\Z)")
_FUNCTIONS = [(b"CREATE", *more, kind) for more in ((), (b"OR", b"REPLACE")) for kind in (b"FUNCTION", b"PROCEDURE")]
_FIRST_WORDS = 4
_TYPES = frozenset({"sign", "word"})
_NO_WORD = {"name": b'""'}


class Unreadable(Exception):
    """Text that cannot be read as SQL for certain. ``command``: it is a command of psql; ``cut``: it ends too early."""

    def __init__(self, why: str, line: int, *, command: bool = False, cut: bool = False) -> None:
        super().__init__(f"line {line:,}: {why}")
        self.command = command
        self.cut = cut


class Token(NamedTuple):
    """``kind``: word, name (quoted), string, body (of dollar quotes), number, sign. ``value``: a word in upper case; of
    names and literals the text between the quotes."""

    kind: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """``inside``: it is a part of the ``BEGIN ATOMIC`` body of a function, or looks like one. ``place``: its range of
    bytes in the script, with its semicolon."""

    tokens: tuple[Token, ...]
    line: int
    inside: bool = False
    place: tuple[int, int] = (0, 0)

    @property
    def words(self) -> tuple[bytes, ...]:
        """Words in upper case, and signs; in place of quoted names and literals an empty one."""
        return tuple(one.value if one.kind in _TYPES else _NO_WORD.get(one.kind, b"''") for one in self.tokens)

    @property
    def brings_data(self) -> bool:
        """Whether the data of a table follows it."""
        words = self.words
        return bool(words) and words[0] == b"COPY" and b"STDIN" in words[2:] and b"FROM" in words[1:]


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Lexer:
    """Iterates over the statements of a script. ``keys``: byte ranges of its own ``\\restrict`` and ``\\unrestrict``.

    ``standard``: standard_conforming_strings at this place; the caller sets it. ``connects``: whether ``\\connect`` and
    ``\\encoding`` are skipped (in the script of pg_restore that makes a database).
    """

    def __init__(self, stream: Readable, *, connects: bool = False) -> None:
        self._stream = stream
        self._connects = connects
        self._buffer = b""
        self._at = 0
        self._before = 0  # bytes and lines that have left the buffer
        self._lines = 1
        self._counted = 0
        self._ended = False
        self._token_begins = 0
        self._previous = ord("\n")  # the byte in front of the buffer
        self.standard = True
        self.keys: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[Statement]:
        self._more()
        if self._buffer.startswith(b"\xef\xbb\xbf"):
            self._at = 3
        nesting = _Nesting()
        tokens: list[Token] = []
        begins = 0
        while (token := self._token(beginning=not tokens)) is not None:
            if token.value == b";" and token.kind == "sign" and not nesting.parentheses:
                place = (begins, self._before + self._at)
                statement = Statement(tuple(tokens), self._line, inside=nesting.inside, place=place)
                tokens = []
                if statement.tokens:
                    yield statement
                if nesting.blocks:
                    nesting.inside = True
                    continue
                nesting = _Nesting()
                if statement.brings_data:
                    self._pass_data()
                continue
            begins = begins if tokens else self._token_begins
            tokens.append(token)
            nesting.see(token)
        if tokens:
            yield Statement(tuple(tokens), self._line, inside=nesting.inside)

    @property
    def left(self) -> bytes:
        """The bytes that were read but not split yet. For a short text: all that follows the statement."""
        return self._buffer[self._at :]

    @property
    def _line(self) -> int:
        """The number of the line here; lines are counted once."""
        self._lines += self._buffer.count(b"\n", self._counted, self._at)
        self._counted = self._at
        return self._lines

    def _more(self) -> bool:
        """Read the next block; bytes that were already split are removed from the buffer."""
        if self._ended:
            return False
        rest = self._buffer[self._at :]
        if len(rest) > _LARGEST:
            raise Unreadable("a statement has no end", self._line, cut=True)
        block = self._stream.read(max(_BLOCK, len(rest)))
        if not block:
            self._ended = True
            return False
        if b"\0" in block:
            raise Unreadable("it contains a zero byte", self._line)
        self._lines, self._counted = self._line, 0
        self._before += self._at
        self._previous = self._buffer[self._at - 1] if self._at else self._previous
        self._buffer, self._at = rest + block, 0
        return True

    def _token(self, *, beginning: bool) -> Token | None:
        """The next token that is no space and no comment; ``None`` at the end."""
        while True:
            if self._at == len(self._buffer) and not self._more():
                return None
            found = _TOKEN.match(self._buffer, self._at)
            kind = (found.lastgroup if found else None) or ""
            if kind == "comment":
                self._pass_comment()
                continue
            if kind == "command":
                self._pass_command(beginning=beginning)
                continue
            if kind in _QUOTED:
                pattern = _QUOTED[kind] if self.standard or kind != "plain" else _ESCAPES
                found = pattern.match(self._buffer, self._at)
            if (found is None or found.end() + _AHEAD >= len(self._buffer)) and self._more():
                continue  # the token may be longer than the bytes read so far
            if found is None or kind in ("unicode", "tag"):
                raise Unreadable(f"not to be read: {self._quote()}", self._line)
            self._token_begins = self._before + self._at
            if kind == "dollar":
                return self._body(found[0])
            self._at = found.end()
            if kind in ("escape", "string") and self._continues():  # the first piece decides whether it has escapes
                raise Unreadable("a literal is continued by one of another kind", self._line)
            if kind != "space":
                return _made(kind, found[0])

    def _continues(self) -> bool:
        """Whether another literal follows, after only space and comments."""
        passed = 0
        while True:
            found = _TOKEN.match(self._buffer, self._at + passed)
            if (found is None or found.end() + _AHEAD >= len(self._buffer)) and self._more():
                continue
            if found is None or found.lastgroup != "space":
                return found is not None and found.lastgroup == "plain"
            passed = found.end() - self._at

    def _body(self, quote: bytes) -> Token:
        begins = len(quote)
        while (end := self._buffer.find(quote, self._at + begins)) == -1:
            if not self._more():
                raise Unreadable(f"{quote.decode('latin-1')} has no end", self._line, cut=True)
        body = self._buffer[self._at + begins : end]
        self._at = end + len(quote)
        return Token("body", body)

    def _pass_comment(self) -> None:
        depth, self._at = 1, self._at + 2
        while depth:
            found = _COMMENT.search(self._buffer, self._at)
            if found is None:
                self._at = max(self._at, len(self._buffer) - 1)  # a sign of two letters may be cut in half
                if not self._more():
                    raise Unreadable("a comment has no end", self._line, cut=True)
                continue
            depth += 1 if found[0] == b"/*" else -1
            self._at = found.end()

    def _pass_command(self, *, beginning: bool) -> None:
        """Skip psql's own key against commands where pg_dump writes it: alone on a line, between statements."""
        while b"\n" not in self._buffer[self._at :] and self._more():
            pass
        alone = beginning and (self._buffer[self._at - 1] if self._at else self._previous) == ord("\n")
        found = _KEY.match(self._buffer, self._at) if alone else None
        if found is not None:
            self.keys.append((self._before + self._at, self._before + found.end()))
        elif alone and self._connects:
            found = _CONNECT.match(self._buffer, self._at)
        if found is None:
            named = _COMMAND.match(self._buffer, self._at)
            name = named[0].decode("utf-8", "backslashreplace") if named else "\\"
            raise Unreadable(f"a command of psql: {name}", self._line, command=True)
        self._at = found.end()

    def _pass_data(self) -> None:
        """Skip the lines after ``COPY … FROM stdin;`` up to ``\\.``."""
        while b"\n" not in self._buffer[self._at :] and self._more():
            pass
        rest = _REST_OF_LINE.match(self._buffer, self._at)
        if rest is None:
            raise Unreadable("something follows on the line of a COPY", self._line)
        self._at = rest.end() - 1  # at the end of a line
        while True:
            begins = self._buffer.find(_LAST_LINE, self._at)
            self._at = begins if begins != -1 else max(self._at, len(self._buffer) - len(_LAST_LINE) + 1)
            if (begins == -1 or begins + len(_LAST_LINE) + _AHEAD > len(self._buffer)) and self._more():
                continue
            if begins == -1:
                raise Unreadable("the data of a table has no end", self._line, cut=True)
            if found := _END_OF_DATA.match(self._buffer, begins):
                self._at = found.end()
                return
            self._at = begins + 1

    def _quote(self) -> str:
        return self._buffer[self._at : self._at + 20].decode("utf-8", "backslashreplace")


class _Nesting:
    """Tells where a semicolon does not end a statement, by psql's rules."""

    def __init__(self) -> None:
        self.parentheses = 0
        self.blocks = 0
        self.inside = False
        self._first: list[bytes] | None = []  # words; None: it makes no function

    def see(self, token: Token) -> None:
        if token.kind == "sign":
            if token.value == b"(":
                self.parentheses += 1
            elif token.value == b")" and self.parentheses:
                self.parentheses -= 1
        elif token.kind == "word" and self._first is not None:
            if len(self._first) < _FIRST_WORDS:
                self._first.append(token.value)
            if not _makes_a_function(self._first):
                self._first = None
            elif not self.parentheses:
                self._count(token.value)

    def _count(self, word: bytes) -> None:
        if word == b"BEGIN" or (word == b"CASE" and self.blocks):
            self.blocks += 1
        elif word == b"END" and self.blocks:
            self.blocks -= 1


def _makes_a_function(first: Sequence[bytes]) -> bool:
    """Whether a statement with these first words makes a function, or may still turn out to make one."""
    return any(all(map(eq, first, words)) for words in _FUNCTIONS)


def _made(kind: str, text: bytes) -> Token:
    if kind == "word":
        return Token("word", text.upper())
    if kind == "name":
        return Token("name", text[1:-1].replace(b'""', b'"'))
    if kind in ("escape", "string", "plain"):
        return Token("string", text[text.index(b"'") + 1 : -1].replace(b"''", b"'"))
    return Token(kind, text)
