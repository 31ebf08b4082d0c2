"""Statements that SQL of other people must not contain: they are found and refused before any of the SQL runs.

Every restore allows only statements that ``pg_dump`` writes. In SQL of other programs or people (``foreign``) all
statements are refused that reach the server's machine: its files and programs, code that is not stored inside the
database, other servers. What a function does when it runs cannot be seen in its text; see docs/postgresql.md.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from scriptorium import process
from scriptorium.errors import DamageFound, ToolFailed, UnsafeArchive
from scriptorium.sources.postgres.programs import Program
from scriptorium.sources.postgres.restore.lexer import Lexer, Readable, Statement, Token, Unreadable
from scriptorium.sources.postgres.restore.system_tables import Views, written_by
from scriptorium.sources.postgres.toc import TocEntry, UnknownLayout, read_toc, require_own_files

_HEADS = frozenset(
    b"CREATE ALTER COMMENT GRANT REVOKE SET RESET INSERT DROP SECURITY REFRESH TRUNCATE SELECT COPY".split()
)
_ITS_OWN_TRANSACTION = ((b"BEGIN",), (b"COMMIT",))
_BODY_HEADS = frozenset(b"SELECT INSERT UPDATE DELETE MERGE VALUES WITH TABLE RETURN END (".split())
# The words that a SELECT of pg_dump may contain.
_CALLS = frozenset(
    b"SETVAL SET_CONFIG LO_CREATE LO_OPEN LO_CLOSE LOWRITE LO_UNLINK PG_RESTORE_RELATION_STATS "
    b"PG_RESTORE_ATTRIBUTE_STATS PG_RESTORE_EXTENDED_STATS".split()
)
_AROUND = frozenset(
    b"SELECT FROM WHERE OID PG_CATALOG PG_LARGEOBJECT_METADATA TRUE FALSE NULL INTEGER BIGINT REAL BOOLEAN TEXT NAME "
    b"DOUBLE PRECISION SMALLINT REGCLASS XID '' . ( ) , :: : = * [ ] -".split()
)
_OF_THE_CLUSTER = frozenset(b"SYSTEM ROLE GROUP TABLESPACE DATABASE".split())
_LIBRARIES = re.compile(rb"(?i)_preload_libraries|dynamic_library_path|allow_system_table_mods")
# The encodings that a database can have, by all their names. In the others (SJIS, BIG5, GBK, ...) a second byte can be
# a backslash, so only the server knows where their literals end. The server only compares letters and digits of a name.
_SAFE_ENCODING = re.compile(
    rb"(?i)(?:utf-?8|unicode|sql_?ascii|latin-?[0-9]+|iso_?-?8859_?-?[0-9]+|win(?:dows)?-?_?(?:125[0-9]|866|874)|win|alt|"
    rb"koi8_?-?[ru]?|euc_?-?(?:jp|cn|kr|tw|jis_?-?2004)|mule_?internal|tcvn(?:-?5712)?|abc|vscii)"
)
_LANGUAGES = frozenset(b"SQL PLPGSQL PLPERL PLTCL PLV8".split())
_REACHING = re.compile(
    rb"(?i)\b(pg_read_(?:binary_)?file(?:_old)?|pg_ls_\w+|pg_stat_file|pg_file_\w+|pg_logdir_ls|lo_import|lo_export|"
    rb"pg_reload_conf|pg_rotate_logfile|pg_execute_server_program|pg_(?:read|write)_server_files|dblink\w*|"
    rb"query_to_xml\w*|cursor_to_xml\w*|ts_stat|ts_rewrite|copy\b[^;]{0,4000}?\b(?:to|from)\s*(?:program\b|'|\$)|"
    rb"alter\s+system|load\s+'|session_preload_libraries|local_preload_libraries|dynamic_library_path)"
)
_EXTENSIONS = re.compile(
    rb"(?i)pl\w*u|plsh|plpython\d?|file_fdw|\w+_fdw|adminpack|dblink|multicorn\w*|http|pgsql_http|pg_net|pg_cron|"
    rb"pg_background|pg_partman_bgw"
)
_ELSEWHERE = ((b"EVENT", b"TRIGGER"), (b"SUBSCRIPTION",), (b"SERVER",), (b"FOREIGN",), (b"USER", b"MAPPING"),
              (b"ACCESS", b"METHOD"))  # fmt: skip
_ASKED = "if you know who made it and what is in it, allow it: --trust"
_WITHOUT_CREATE = "dump it without --create"
_LAST_LINE = b"\\.\n\n\n"


@dataclass(frozen=True, slots=True)
class Examined:
    """A script that was examined. ``keys``: byte ranges that psql must not get: its own keys, and ``BEGIN`` and
    ``COMMIT``, which pg_dump writes around large objects, because a restore is one transaction. ``objects``: the large
    objects that the script makes."""

    keys: tuple[tuple[int, int], ...] = ()
    objects: tuple[int, ...] = ()


def examine_script(file: Path, *, foreign: bool, trusted: bool = False) -> Examined:
    """Examine SQL for psql. ``trusted``: its statements are not judged, but commands of psql are always refused.

    ``UnsafeArchive`` names the first statement that is refused, and its line.
    """
    objects: list[int] = []
    with _opened(file) as stream:
        keys = _judged(stream, file, foreign=foreign, trusted=trusted, objects=objects)
    return Examined(tuple(keys), tuple(objects))


def examine_dump(dump: Path, program: Program, *, foreign: bool, trusted: bool = False) -> None:
    """The same for a dump: the SQL that ``program`` (pg_restore) writes for it, and the statements that pg_restore
    sends to the server but does not write."""
    try:
        entries = read_toc(dump)
        require_own_files(dump, entries)
    except UnknownLayout:
        if foreign and not trusted:
            raise
        entries = []
    if trusted:
        return
    for entry in entries:
        _judge_the_unwritten(entry, dump, foreign=foreign)
    if dump.is_dir() and not foreign:
        with _without_rows(dump) as hollow:
            try:
                _read(hollow, program, dump, foreign=foreign)
                return
            except UnsafeArchive as error:
                if "\\." not in error.what:  # the rows are statements, not data: they must be read
                    raise
    _read(dump, program, dump, foreign=foreign)


def _judge_the_unwritten(entry: TocEntry, on: Path, *, foreign: bool) -> None:
    """Judge the statements of ``--clean``, and require that the rows of a table are loaded by a single statement: in
    the SQL that pg_restore writes, a second statement would look like rows."""
    of_the_database = entry.what in (b"DATABASE", b"DATABASE PROPERTIES")  # never sent without --create
    for standard in () if of_the_database else (True, False):
        _judged(io.BytesIO(entry.drop), on, foreign=foreign, of_pg_restore=True, standard=standard)
    if entry.copy:
        lexer = Lexer(io.BytesIO(entry.copy))
        try:
            first = next(iter(lexer), None)
        except Unreadable:
            first = None
        if first is None or not first.brings_data or lexer.left.strip():
            raise UnsafeArchive(
                f"the dump loads the rows of {_text(entry.name)} with more than one statement",
                on=str(on),
                hint="use another copy of it",
            )


def _read(dump: Path, program: Program, on: Path, *, foreign: bool) -> None:
    argv = [program.path, "--create", "--file=-", str(dump)]
    try:
        with process.stream(argv, env={"LC_ALL": "C"}) as script:
            _judged(script, on, foreign=foreign, of_pg_restore=True)
    except ToolFailed as error:
        raise DamageFound(
            f"the dump cannot be read to its end: {error.what}", on=str(on), hint="use another copy of it"
        ) from error


@contextmanager
def _without_rows(dump: Path) -> Iterator[Path]:
    """A copy of a dump in the directory format, with the same table of contents but without rows."""
    with tempfile.TemporaryDirectory(prefix="scriptorium-") as folder:
        for file in dump.iterdir():
            if file.name == "toc.dat" or file.name.startswith("blobs"):
                shutil.copy(file, folder)
            else:
                Path(folder, file.name.removesuffix(".gz").removesuffix(".lz4").removesuffix(".zst")).write_bytes(
                    _LAST_LINE
                )
        yield Path(folder)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        if not packed:
            yield plain
            return
        try:
            with gzip.open(plain, "rb") as stream:
                yield cast(IO[bytes], stream)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamageFound(f"the file cannot be read to its end: {error}", on=str(file)) from None


def _judged(
    stream: Readable,
    on: Path,
    *,
    foreign: bool,
    trusted: bool = False,
    of_pg_restore: bool = False,
    standard: bool = True,
    objects: list[int] | None = None,
) -> list[tuple[int, int]]:
    lexer, views = Lexer(stream, connects=of_pg_restore), Views()
    lexer.standard = standard
    try:
        for statement in lexer:
            if statement.words in _ITS_OWN_TRANSACTION and not statement.inside:
                lexer.keys.append(statement.place)
                continue
            if objects is not None and b"LO_CREATE" in statement.words:
                objects += [int(one.value) for one in statement.tokens if one.value.isdigit()]
            why = _conforming(statement, lexer)
            if not why and not trusted:
                why = _refused(statement, of_pg_restore)
            if not why and foreign and not trusted:
                why = _reaching(statement) or views.judge(statement)
            if why:
                hint = _ASKED if statement.words[1:2] != (b"DATABASE",) else _WITHOUT_CREATE
                raise UnsafeArchive(f"line {statement.line:,} of the SQL {why}", on=str(on), hint=hint)
    except Unreadable as error:
        if error.cut:
            raise DamageFound(f"it ends early: {error}", on=str(on), hint="use another copy of it") from None
        if error.command:
            raise UnsafeArchive(
                f"the SQL has a command of psql, which can leave the database: {error}",
                on=str(on),
                hint=f"{_WITHOUT_CREATE}, or remove the command; psql never runs a command from a file",
            ) from None
        raise UnsafeArchive(
            f"the SQL cannot be read for certain: {error}", on=str(on), hint="dump it again with pg_dump, as UTF8"
        ) from None
    return lexer.keys


def _conforming(statement: Statement, lexer: Lexer) -> str:
    """Track the settings that decide where literals end. Returns a reason to refuse if they cannot be tracked."""
    words = statement.words
    named = {token.value.upper() for token in statement.tokens if token.kind in ("word", "name")}
    if words[0] == b"SET" and {b"CLIENT_ENCODING", b"NAMES"} & named:
        plain = len(words) == 4 and words[2] in (b"=", b"TO") and b"CLIENT_ENCODING" in named
        safe = plain and _SAFE_ENCODING.fullmatch(statement.tokens[-1].value)
        return "" if safe else "sets an encoding in which the end of a literal is uncertain"
    if b"STANDARD_CONFORMING_STRINGS" not in named:
        return ""
    if words[:2] in ((b"ALTER", b"DATABASE"), (b"ALTER", b"ROLE")) and not statement.inside:
        return ""  # for later sessions of the application; our session sets its own value
    value = statement.tokens[-1].value.upper()
    known = len(words) == 4 and words[0] == b"SET" and words[2] in (b"=", b"TO") and value in (b"ON", b"OFF")
    if not known or statement.inside:
        return "changes standard_conforming_strings in a way of its own"
    lexer.standard = value == b"ON"
    return ""


def _refused(statement: Statement, of_pg_restore: bool) -> str:
    """Why a dump must not have this statement; empty if it may."""
    words = statement.words
    head, named = words[0], f"has a statement that pg_dump never writes: {_named(statement)}"
    if statement.inside:
        odd = {b"SET_CONFIG", b"COPY"} & set(words)
        return "" if head in _BODY_HEADS and not odd else named
    if head not in _HEADS:
        return named
    if head == b"SELECT":
        calls = _CALLS & set(words)
        rest = {word for token, word in zip(statement.tokens, words, strict=True) if token.kind != "number"}
        return "" if calls and rest <= _CALLS | _AROUND and _plain_setting(statement, calls) else named
    if head in (b"COPY", b"INSERT") and _into_the_catalog(statement):
        return f"writes into the server's own tables: {words_of(tuple(one.value for one in statement.tokens[:5]))}"
    if head == b"COPY":
        return (
            "" if _is_of_rows(words) else f"lets the server read or write its own files or programs: {words_of(words)}"
        )
    if head == b"INSERT":
        return named if {b"SELECT", b"WITH", b"RETURNING", b"EXECUTE"} & set(words) else ""
    if head in (b"GRANT", b"REVOKE"):
        return "" if b"ON" in words and b"PARAMETER" not in words else named
    if head == b"RESET":
        return "" if words[1:] == (b"SESSION", b"AUTHORIZATION") else named
    if head in (b"CREATE", b"ALTER", b"DROP"):
        return _of_the_cluster(statement, named, of_pg_restore)
    if head == b"SET":
        return named if _sets_a_library(statement) else ""
    return ""


def _plain_setting(statement: Statement, calls: frozenset[bytes]) -> bool:
    """Whether the statement sets nothing by a function except the search path, as pg_dump does."""
    literals = [token.value for token in statement.tokens if token.kind == "string"]
    return b"SET_CONFIG" not in calls or (calls == {b"SET_CONFIG"} and literals[:1] == [b"search_path"])


def _is_of_rows(words: tuple[bytes, ...]) -> bool:
    """Whether it is ``COPY table [(columns)] FROM stdin``, followed by nothing or by FREEZE."""
    after = words[words.index(b"STDIN") + 1 :] if b"STDIN" in words else (b"?",)
    before = words[: len(words) - len(after)]
    return (
        before[-2:] == (b"FROM", b"STDIN")
        and before.count(b"FROM") == 1
        and words[1] != b"("
        and not {b"TO", b"SELECT", b"PROGRAM", b"''"} & set(before)
        and after in ((), (b"WITH", b"(", b"FREEZE", b")"))
    )


def _into_the_catalog(statement: Statement) -> bool:
    """Whether rows are written into catalogs, which hold roles, functions and settings: ``pg_…``, or a table in such a
    schema."""
    after = statement.tokens[2 if statement.words[1:2] == (b"INTO",) else 1 :]
    parts = [token.value if token.kind == "name" else token.value.lower() for token in after[:5:2]]
    dots = [token.value == b"." for token in after[1:4:2]]
    count = 1 + (dots[0] if dots else 0) + (all(dots) if len(dots) == 2 else 0)
    asked = parts[:count][-2] if count > 1 else (parts or [b""])[0]
    return asked.startswith(b"pg_") or asked == b"information_schema"


def _of_the_cluster(statement: Statement, named: str, of_pg_restore: bool) -> str:
    words, library = statement.words, _sets_a_library(statement)
    what = words[1] if len(words) > 1 else b""
    of_one_database = what == b"DATABASE" or (what == b"ROLE" and words[3:5] == (b"IN", b"DATABASE"))
    if of_one_database and of_pg_restore:
        return ""  # pg_restore never runs it; properties.py leaves out settings that load a library
    if what == b"DATABASE":
        return "makes or changes a database, and would \\connect to it"
    if what in _OF_THE_CLUSTER or (what == b"USER" and words[2:3] != (b"MAPPING",)):
        return named
    return named if what == b"OWNED" or library else ""


def _sets_a_library(statement: Statement) -> bool:
    return any(_LIBRARIES.search(token.value) for token in statement.tokens if token.kind in ("word", "name"))


def _reaching(statement: Statement) -> str:
    """Why a statement of another author reaches beyond the database; empty if it does not."""
    words = statement.words
    if why := written_by(statement):
        return why
    for token in statement.tokens:
        if token.kind in ("word", "name", "sign") and (found := _REACHING.fullmatch(token.value)):
            return f"reaches the server's machine: {_text(found[0])}"
    if words[0] == b"CREATE":
        kinds = words[3:] if words[1:3] == (b"OR", b"REPLACE") else words[1:]
        return _made_elsewhere(kinds) or _code(statement, kinds) or _extension(statement, kinds)
    return ""


def _made_elsewhere(kinds: tuple[bytes, ...]) -> str:
    found = next((one for one in _ELSEWHERE if kinds[: len(one)] == one), None)
    return f"makes an object that acts beyond the database: CREATE {words_of(found)}" if found else ""


def _code(statement: Statement, kinds: tuple[bytes, ...]) -> str:
    """Judge functions and procedures by their language and their body."""
    if not {b"FUNCTION", b"PROCEDURE", b"LANGUAGE"} & set(kinds[:3]):
        return ""
    tokens = statement.tokens
    for at, token in enumerate(tokens[:-1]):
        if token.kind == "word" and token.value == b"LANGUAGE":
            language = tokens[at + 1].value
            if language.upper() not in _LANGUAGES:
                return f"has code in the language {_text(language)}, which is not stored inside the database"
    if kinds[0] in (b"LANGUAGE", b"TRUSTED", b"PROCEDURAL") and b"HANDLER" in kinds:
        return "makes a language of its own"
    for token in tokens:
        if token.kind in ("body", "string") and (found := _REACHING.search(token.value)):
            return f"has a function that reaches the server's machine: {_text(found[0])}"
    return ""


def _extension(statement: Statement, kinds: tuple[bytes, ...]) -> str:
    if kinds[:1] != (b"EXTENSION",):
        return ""
    at = 5 if kinds[1:4] == (b"IF", b"NOT", b"EXISTS") else 2
    name: Token | None = statement.tokens[at] if len(statement.tokens) > at else None
    if name is not None and _EXTENSIONS.fullmatch(name.value):
        return f"makes an extension that reaches the server's machine or others: {_text(name.value)}"
    return ""


def words_of(words: tuple[bytes, ...]) -> str:
    return _text(b" ".join(words[:8]))


def _named(statement: Statement) -> str:
    """Its first words only, because it may contain secrets."""
    return words_of(tuple(token.value if token.kind == "word" else b"..." for token in statement.tokens[:4]))


def _text(value: bytes) -> str:
    text = value[:80].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else " " for letter in text)
