"""The statements of a logical export, read and never run as found: what is not known to be harmless is refused.

An export is a program of somebody: ``schema.cypher``, ``copy.cypher`` and ``index.cypher``. Each is cut into words,
strings and signs; each statement must have one of a few forms, and is written anew from its words for the engine. Files
are those of the export's own folder. It is loaded by a child that has the engine, and imports nothing of the package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FILES = ("schema.cypher", "copy.cypher", "index.cypher")
_LONGEST = 64 << 20
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\v\f\r]+|/\*.*?\*/|//[^\n\r]*)
    |(?P<string>'(?:[^'\\]|\\(?:[\\'"BbFfNnRrTt]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}))*'
      |"(?:[^"\\]|\\(?:[\\'"BbFfNnRrTt]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}))*")
    |(?P<name>`(?:[^`]|``)*`)
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>:=|->|<-|<=|>=|<>|=~|\|\||\.\.|[()\[\]{},;:=.+\-*/%^<>|$@!&])""",
    re.VERBOSE | re.DOTALL,
)
_OPENING, _CLOSING = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
_COPY_OPTIONS = frozenset(
    {
        "parallel", "from", "to", "header", "delim", "delimiter", "quote", "escape", "skip", "list_begin", "list_end",
        "null_strings", "sample_size", "auto_detect", "ignore_errors", "file_format",
    }
)  # fmt: skip
_INDEXES = frozenset({"CREATE_VECTOR_INDEX", "CREATE_FTS_INDEX"})
_SEQUENCE_WORDS = frozenset({"START", "WITH", "INCREMENT", "BY", "MINVALUE", "MAXVALUE", "NO", "CYCLE"})
_PLAIN_FILE = re.compile(r"[^/\\*?\[\]{}~\0\n]+\.(?:parquet|csv)")


class Refused(ValueError):
    """A statement, or a file that it names, that is none of an export's."""


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: word, name (in backticks), string, number, sign. ``text``: as it stands there. ``apart``: whether
    something stood between it and the one before."""

    kind: str
    text: str
    apart: bool = True

    @property
    def word(self) -> str:
        """An unquoted word in capitals, or a sign; empty for anything else."""
        return self.text.upper() if self.kind in ("word", "sign") else ""

    @property
    def value(self) -> str:
        """A name or a string without its quotes. In a name Kuzu keeps two backticks as two."""
        if self.kind == "name":
            return self.text[1:-1]
        if self.kind == "string":
            return re.sub(r"\\(.)", r"\1", self.text[1:-1], flags=re.DOTALL)
        return self.text


Statement = Sequence[Token]


def statements(text: str) -> Iterator[list[Token]]:
    """The statements of a file, each as its tokens. ``Refused`` where something is no token, or nothing ends it."""
    if len(text) > _LONGEST:
        raise Refused("it is longer than a schema can be")
    at, found, open_, apart = 0, list[Token](), list[str](), False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Refused(f"this is no statement of an export: {_shown(text[at:])}")
        at = match.end()
        if match.lastgroup == "blank":
            apart = True
            continue
        token, apart = Token(match.lastgroup, match[0], apart), False
        if token.word == ";":
            if open_:
                raise Refused(f"brackets that do not fit: {_shown(written(found))}")
            if found:
                yield found
            found = []
            continue
        if token.word in _OPENING:
            open_.append(_OPENING[token.word])
        elif token.word in _CLOSING and (not open_ or open_.pop() != token.word):
            raise Refused(f"brackets that do not fit: {_shown(written(found))}")
        found.append(token)
    if open_:
        raise Refused(f"brackets that do not fit: {_shown(written(found))}")
    if found:
        yield found


def written(statement: Statement) -> str:
    """A statement for the engine: its tokens, with one blank where something stood between them."""
    text = ""
    for token in statement:
        blank = text and (token.apart or (text[-1] == "/" and token.text[0] in "/*"))  # never the begin of a comment
        text += f" {token.text}" if blank else token.text
    return text


def quoted(text: str) -> str:
    """A string for the engine."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def named(name: str) -> str:
    """A name for the engine, which keeps what stands between the backticks as it is."""
    return f"`{name}`"


def plan(folder: Path) -> list[str]:
    """What makes the database of an export, in order; files are named as they are called in ``folder``, where the
    engine has to work. ``Refused`` names what is no statement of an export, before the first of them is run."""
    found = [written(_schema(one)) for one in statements(_text(folder, "schema.cypher"))]
    found += [written(_copy(one, folder)) for one in statements(_text(folder, "copy.cypher"))]
    return found + [written(_index(one, folder)) for one in statements(_text(folder, "index.cypher"))]


def _text(folder: Path, name: str) -> str:
    path = folder / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Refused(f"{name} is no plain file")
    if not path.exists():
        if name == "index.cypher":  # older engines write none
            return ""
        raise Refused(f"{name} is missing")
    if path.stat().st_size > _LONGEST:
        raise Refused(f"{name} is longer than a schema can be")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{name} is not UTF-8") from None


class _Reader:
    """Takes the tokens of one statement one after another."""

    def __init__(self, statement: Statement) -> None:
        self._all, self._at = statement, 0

    def refuse(self) -> Refused:
        return Refused(f"this is no statement of an export: {_shown(written(self._all))}")

    def next(self) -> Token:
        if self._at == len(self._all):
            raise self.refuse()
        self._at += 1
        return self._all[self._at - 1]

    def took(self, *words: str) -> bool:
        """Whether these words come next; then they are taken."""
        coming = [token.word for token in self._all[self._at : self._at + len(words)]]
        if coming != list(words):
            return False
        self._at += len(words)
        return True

    def need(self, *words: str) -> None:
        if not self.took(*words):
            raise self.refuse()

    def of(self, *kinds: str) -> Token:
        token = self.next()
        if token.kind not in kinds:
            raise self.refuse()
        return token

    def name(self) -> Token:
        return self.of("word", "name")

    def group(self) -> list[Token]:
        """What stands in the round brackets that come next."""
        self.need("(")
        depth, inside = 1, list[Token]()
        while True:
            token = self.next()
            depth += (token.word in _OPENING) - (token.word in _CLOSING)
            if not depth:
                return inside
            inside.append(token)

    def rest(self) -> list[Token]:
        left = list(self._all[self._at :])
        self._at = len(self._all)
        return left

    def end(self) -> None:
        if self._at != len(self._all):
            raise self.refuse()


def _schema(statement: Statement) -> Statement:
    read = _Reader(statement)
    for words, form in _FORMS.items():
        if read.took(*words):
            form(read)
            return statement
    raise read.refuse()


def _table(read: _Reader) -> None:
    read.took("GROUP")
    read.took("IF", "NOT", "EXISTS")
    read.name()
    read.group()
    if read.took("WITH"):
        read.group()
    read.end()


def _sequence(read: _Reader) -> None:
    read.took("IF", "NOT", "EXISTS")
    read.name()
    for token in read.rest():
        if token.kind != "number" and token.word not in _SEQUENCE_WORDS and token.text != "-":
            raise read.refuse()


def _dropped_sequence(read: _Reader) -> None:
    read.took("IF", "EXISTS")
    read.name()
    read.end()


def _next_value(read: _Reader) -> None:
    read.need("(")
    read.of("string")
    read.need(")")
    read.end()


def _comment(read: _Reader) -> None:
    read.name()
    read.need("IS")
    read.of("string")
    read.end()


def _macro(read: _Reader) -> None:
    read.name()
    read.group()
    read.need("AS")
    if not read.rest():
        raise read.refuse()


_FORMS: Mapping[tuple[str, ...], Callable[[_Reader], None]] = {
    ("CREATE", "NODE", "TABLE"): _table,
    ("CREATE", "REL", "TABLE"): _table,
    ("CREATE", "SEQUENCE"): _sequence,
    ("DROP", "SEQUENCE"): _dropped_sequence,
    ("RETURN", "NEXTVAL"): _next_value,
    ("COMMENT", "ON", "TABLE"): _comment,
    ("CREATE", "MACRO"): _macro,
}


def _copy(statement: Statement, folder: Path) -> Statement:
    read = _Reader(statement)
    read.need("COPY")
    found = [Token("word", "COPY"), read.name()]
    if not read.took("FROM"):
        found += [Token("sign", "("), *read.group(), Token("sign", ")")]
        if any(token.kind not in ("word", "name") and token.word != "," for token in found[3:-1]):
            raise read.refuse()
        read.need("FROM")
    file = read.of("string").value
    if not _PLAIN_FILE.fullmatch(file) or file.startswith("."):
        raise Refused(f"a COPY from elsewhere than the export's own folder: {_shown(written(statement))}")
    path = folder / file
    if path.is_symlink() or not path.is_file():
        raise Refused(f"a COPY from a file that the export does not hold: {_shown(file)}")
    found += [Token("word", "FROM"), Token("string", quoted(file))]
    options = _options(read, parquet=file.endswith(".parquet"))
    if options:
        found += [Token("sign", "("), *options, Token("sign", ")")]
    return found


def _options(read: _Reader, *, parquet: bool) -> list[Token]:
    """Those of ``IMPORT DATABASE``: of a Parquet file, only which tables a relationship connects."""
    if not read.took("("):
        read.end()
        return []
    found: list[Token] = []
    first = True
    while not read.took(")"):
        if not first:
            read.need(",")
        first = False
        key = read.of("word")
        if key.text.lower() not in _COPY_OPTIONS:
            raise read.refuse()
        read.need("=")
        value = read.of("string", "number", "word")
        if not parquet or key.text.lower() in ("from", "to"):
            found += [*([Token("sign", ",")] if found else []), key, Token("sign", "="), value]
    read.end()
    return found


def _index(statement: Statement, folder: Path) -> Statement:
    read = _Reader(statement)
    if read.took("ALTER", "TABLE"):
        read.name()
        read.need("RENAME")
        read.name()
        read.need("TO")
        read.name()
        read.end()
        return statement
    read.need("CALL")
    kind = read.of("word")
    if kind.text.upper() not in _INDEXES:
        raise read.refuse()
    inside = read.group()
    read.end()
    for at, token in enumerate(inside):
        if token.kind not in ("string", "number", "word") and token.word not in (":=", ",", "[", "]", "-"):
            raise read.refuse()
        if token.word == "STOPWORDS" and at + 2 < len(inside):
            inside[at + 2] = _stopwords(inside[at + 2], folder)
    return [Token("word", "CALL"), kind, Token("sign", "("), *inside, Token("sign", ")")]


def _stopwords(token: Token, folder: Path) -> Token:
    """The engine writes the path of a file of the export as it was then; a table's name is a name."""
    if token.kind != "string":
        raise Refused("words of an index that are no name of a table")
    file = token.value.rpartition("/")[2]
    if _PLAIN_FILE.fullmatch(file):
        if (folder / file).is_symlink() or not (folder / file).is_file():
            raise Refused(f"an index with words of a file that the export does not hold: {_shown(token.text)}")
        return Token("string", quoted(file))
    if "/" in token.value or "." in token.value or ":" in token.value:
        raise Refused(f"an index with words from elsewhere: {_shown(token.text)}")
    return token


def _shown(text: str) -> str:
    return repr(text[:120])[1:-1] + ("…" if len(text) > 120 else "")
