"""The properties of a database itself: owner, rights, limits, settings, comment; taken from another database or a dump.

Some of them would disturb a restore (a connection limit, a statement timeout), so they are set in two steps: those that
objects may need when they are made are set before the data is loaded, the rest after it. Properties that the role may
not set are left out, and a warning contains the statement that sets them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from scriptorium import process
from scriptorium.errors import NotFound, ScriptoriumError, SourceUnavailable, ToolFailed
from scriptorium.sources.postgres.connection import Address, Row, quoted, sql
from scriptorium.sources.postgres.databases import Mark, comment_of, exists, literal, set_comment
from scriptorium.sources.postgres.encodings import as_utf8
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.programs import Program

if TYPE_CHECKING:
    import psycopg

# The values of these settings are lists that are stored with quotes; pg_dump has the same list.
_READY_LISTS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries",
                "shared_preload_libraries", "unix_socket_directories"}  # fmt: skip
# Functions and queries of the dump may need these settings while objects are made; also the application's own settings.
_EARLY = {"search_path", "default_text_search_config", "datestyle", "intervalstyle", "timezone", "lc_monetary",
          "lc_numeric", "lc_time", "bytea_output", "xmlbinary"}  # fmt: skip
_COMMENT = b"COMMENT"
_ENTRY = re.compile(rb"\d+; \d+ \d+ (DATABASE |DATABASE PROPERTIES |(ACL|COMMENT|SECURITY LABEL) - DATABASE )")
_IDENTIFIER = rb'(?:"(?:[^"]|"")*"|[\w$]+)'
_OF_DATABASE = re.compile(
    rb"(?P<before>CREATE DATABASE|ALTER DATABASE|COMMENT ON DATABASE|(?:ALTER ROLE " + _IDENTIFIER + rb" IN DATABASE)"
    rb"|(?:GRANT|REVOKE) [A-Z, ]+? ON DATABASE|SECURITY LABEL FOR " + _IDENTIFIER + rb" ON DATABASE) "
    rb"(?P<name>" + _IDENTIFIER + rb")(?P<after>.*)",
    re.DOTALL,
)
_SETS = re.compile(rb"\s+SET (" + _IDENTIFIER + rb"(?:\." + _IDENTIFIER + rb")*) ")
# Settings that make every session load a library are not taken from an archive, which somebody may have changed.
_LIBRARIES = re.compile(r"(?i)_preload_libraries|dynamic_library_path")
_LAST = re.compile(rb"\s+(?:CONNECTION LIMIT|IS_TEMPLATE)\b")
_SESSION = re.compile(rb"SET (standard_conforming_strings|SESSION AUTHORIZATION)|RESET SESSION AUTH")
_PIECE = re.compile(rb"""--[^\n]*|E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|;|[^-E'";]+|.""", re.DOTALL)
_OWN_ENCODING = re.compile(rb" ENCODING = ('[^']*')")


@dataclass(slots=True)
class DatabaseProperties:
    """Statements that set the properties of a database: ``early`` ones before its data is loaded, ``late`` ones after.

    ``warnings``: the statements that could not be run.
    """

    early: list[bytes] = field(default_factory=list)
    late: list[bytes] = field(default_factory=list)
    comment: str | None = None
    warnings: list[str] = field(default_factory=list)

    def add_setting(self, scope: bytes, key: str, statement: bytes) -> None:
        """``scope``: the statement up to ``SET``. ``late`` has all settings, in their order."""
        if _early(key):
            self.early.append(statement)
            if (reset := scope + b" RESET ALL") not in self.late:
                self.late.insert(0, reset)
        self.late.append(statement)

    def before_data(self, session: psycopg.Connection[Row]) -> None:
        self._carry_out(session, self.early)

    def after_data(self, session: psycopg.Connection[Row], name: str, inside: Address) -> None:
        """``name``: the database that gets them; ``inside``: its address. The server stores a comment in the encoding
        of the session's database, so it is set in a session of this database."""
        comments = [statement for statement in self.late if statement.startswith(_COMMENT)]
        with inside.session() as own:
            self._carry_out(own, comments)
            set_comment(own, name, self.comment or _own_comment(own, name))
        self._carry_out(session, (statement for statement in self.late if statement not in comments))

    def _carry_out(self, session: psycopg.Connection[Row], statements: Iterable[bytes]) -> None:
        try:
            for statement in statements:
                self._execute(session, statement)
        finally:
            session.execute("SET standard_conforming_strings TO on")

    def _execute(self, session: psycopg.Connection[Row], statement: bytes) -> None:
        try:
            with translating_errors("the database"):
                session.execute(_marked(statement))
        except SourceUnavailable:
            raise
        except ScriptoriumError as error:
            warning = f"not set on the database: {_shown(statement)} ({_reason(error)})"
            if not _SESSION.match(statement) and warning not in self.warnings:
                self.warnings.append(warning)


def _marked(statement: bytes) -> LiteralString:
    """psycopg accepts bytes as a statement, but its types do not say so here."""
    return statement  # type: ignore[return-value]


def _shown(statement: bytes) -> str:
    return " ".join(statement.decode("utf-8", "replace").split())


def _reason(error: ScriptoriumError) -> str:
    return error.what.removeprefix("no right: ")


def like(session: psycopg.Connection[Row], name: str, model: str, inside: Address) -> DatabaseProperties:
    """Make the empty database ``name`` with owner, encoding, locale and tablespace of the database ``model`` on this
    server (``inside``: its address). Returns the other properties of ``model``."""
    _create_like(session, name, model)
    properties = DatabaseProperties(comment=_comment_inside(session, model, inside))
    for scope, key, value in _settings(session, name, model):
        properties.add_setting(_bytes(scope), key, _bytes(f"{scope} SET {quoted(*key.split('.'))} TO {value}"))
    properties.early += [_bytes(statement) for statement in _grants(session, name, model)]
    row = session.execute("SELECT datconnlimit, datistemplate FROM pg_database WHERE datname = %s", (model,)).fetchone()
    limit, template = row or (-1, False)
    if limit != -1:
        properties.late.append(_bytes(f"ALTER DATABASE {quoted(name)} CONNECTION LIMIT {limit}"))
    if template:
        properties.late.append(_bytes(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE true"))
    properties.late += [_bytes(one) for one in _labels(session, name, model)]
    return properties


def _bytes(statement: str) -> bytes:
    return statement.encode("utf-8", "surrogateescape")


def _early(key: str) -> bool:
    return "." in key or key.lower() in _EARLY


def _own_comment(session: psycopg.Connection[Row], name: str) -> str | None:
    """The database's comment. If a restore of an earlier version replaced it, the original one."""
    mark = Mark.of(session, name)
    return mark.comment if mark is not None else comment_of(session, name)


def _comment_inside(session: psycopg.Connection[Row], name: str, inside: Address) -> str | None:
    """The comment, read in a session of the database itself, if one can be opened."""
    try:
        with inside.session() as own:
            return _own_comment(own, name)
    except ScriptoriumError:
        return _own_comment(session, name)


def _create_like(session: psycopg.Connection[Row], name: str, model: str) -> None:
    row = session.execute(
        "SELECT pg_get_userbyid(d.datdba)::text, pg_encoding_to_char(d.encoding)::text, d.datcollate::text, "
        "d.datctype::text, CASE WHEN d.dattablespace <> base.dattablespace THEN t.spcname::text END, "
        "to_jsonb(d) ->> 'datlocprovider', "
        "coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), "  # new in 15, renamed in 17
        "to_jsonb(d) ->> 'daticurules' "
        "FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace "
        "JOIN pg_database base ON base.datname = 'template0' WHERE d.datname = %s",
        (model,),
    ).fetchone()
    if row is None:
        raise NotFound("there is no such database", on=model)
    owner, encoding, collate, ctype, tablespace, kind, own_locale, rules = (str(one or "") for one in row)
    words = [f"TEMPLATE template0 OWNER {quoted(owner)} ENCODING {literal(encoding)}"]
    if tablespace:  # to name the default one a role needs a right that few have
        words.append(f"TABLESPACE {quoted(tablespace)}")
    words.append(f"LC_COLLATE {literal(collate)} LC_CTYPE {literal(ctype)}")
    if kind == "i":
        words.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(own_locale)}")
        words += [f"ICU_RULES {literal(rules)}"] if rules else []
    elif kind == "b":
        words.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(own_locale)}")
    session.execute(sql(f"CREATE DATABASE {quoted(name)} {' '.join(words)}"))


def _grants(session: psycopg.Connection[Row], name: str, model: str) -> Iterator[str]:
    """The rights, if they differ from those of a new database."""
    row = session.execute("SELECT datacl IS NULL FROM pg_database WHERE datname = %s", (model,)).fetchone()
    if row is None or row[0]:
        return
    grants = session.execute(
        "SELECT a.privilege_type, a.is_grantable, "
        "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.grantee = d.datdba "
        "FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = %s",
        (model,),
    ).fetchall()
    yield f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC"
    owned = {str(privilege) for privilege, _, _, own in grants if own}
    lost = sorted({"CREATE", "CONNECT", "TEMPORARY"} - owned)
    for privilege, grantable, grantee, own in grants:
        if grantable or not own:
            more = " WITH GRANT OPTION" if grantable else ""
            yield f"GRANT {privilege} ON DATABASE {quoted(name)} TO {grantee}{more}"
    owner = session.execute(
        "SELECT quote_ident(pg_get_userbyid(datdba)) FROM pg_database WHERE datname = %s", (model,)
    ).fetchone()
    if lost and owner:
        yield f"REVOKE {', '.join(lost)} ON DATABASE {quoted(name)} FROM {owner[0]}"


def _settings(session: psycopg.Connection[Row], name: str, model: str) -> Iterator[tuple[str, str, str]]:
    """The settings of the database and of roles in it: beginning of the statement, name, value as SQL."""
    for role, key, value in settings_of(session, model):
        whose = f"ALTER ROLE {quoted(role)} IN DATABASE {quoted(name)}" if role else f"ALTER DATABASE {quoted(name)}"
        yield whose, key, value if key in _READY_LISTS else literal(value)


def settings_of(session: psycopg.Connection[Row], database: str) -> Iterator[tuple[str, str, str]]:
    """Role (empty: all roles), name and value of all settings of a database."""
    rows = session.execute(
        "SELECT CASE s.setrole WHEN 0 THEN '' ELSE pg_get_userbyid(s.setrole)::text END, s.setconfig "
        "FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s ORDER BY 1",
        (database,),
    ).fetchall()
    for role, words in rows:
        assert isinstance(words, list)
        for word in words:
            key, _, value = str(word).partition("=")
            yield str(role), key, value


def _labels(session: psycopg.Connection[Row], name: str, model: str) -> Iterator[str]:
    rows = session.execute(
        "SELECT l.provider, l.label FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid "
        "WHERE l.classoid = 'pg_database'::regclass AND d.datname = %s",
        (model,),
    ).fetchall()
    for provider, label in rows:
        yield f"SECURITY LABEL FOR {quoted(str(provider))} ON DATABASE {quoted(name)} IS {literal(str(label))}"


def settings_preflight(session: psycopg.Connection[Row], database: str, *, in_place: bool) -> str:
    """What happens to the settings of the database, for the preflight."""
    if in_place:
        return "stay as they are"
    if not exists(session, database):
        return "as the backup has them: the database is not there"
    if closed := not_settable(session, database):
        return f"are kept except {', '.join(closed)}, which only an administrator may set; left out with a warning"
    return "rights, limits and comment of the living database are kept"


def not_settable(session: psycopg.Connection[Row], database: str) -> tuple[str, ...]:
    """The names of the database's settings that this role may not set, so that a restore would leave them out."""
    rows = session.execute(
        "SELECT name, CASE WHEN current_setting('server_version_num')::int < 150000 THEN false "
        "ELSE has_parameter_privilege(name, 'SET') END FROM pg_settings WHERE context = 'superuser'"
        if session.info.server_version >= 150000
        else "SELECT name, false FROM pg_settings WHERE context = 'superuser'"
    ).fetchall()
    row = session.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if row and row[0]:
        return ()
    closed = {str(name).lower() for name, open_ in rows if not open_}
    found = {key for _, key, _ in settings_of(session, database)}
    return tuple(sorted(key for key in found if key.lower() in closed))


def own_script(dump: Path, program: Program) -> bytes:
    """The statements that make the dump's database and set its properties, as bytes in the dump's encoding."""
    listed = process.run([program.path, "--create", "--list", str(dump)], timeout=600).stdout
    chosen = [line for line in listed.splitlines() if _ENTRY.match(line)]
    with tempfile.NamedTemporaryFile(prefix="scriptorium-") as wanted:
        wanted.write(b"\n".join(chosen) + b"\n")
        wanted.flush()
        argv = [program.path, "--create", f"--use-list={wanted.name}", "--file=-", str(dump)]
        return process.run(argv, timeout=600).stdout


def statements(script: bytes) -> Iterator[bytes]:
    """The statements of a script by pg_restore, without comments and psql's own commands."""
    script = re.sub(rb"^\\[^\n]*$", b"", script, flags=re.MULTILINE) if b"\n\\" in script else script
    words: list[bytes] = []
    for piece in _PIECE.findall(script):
        if piece.startswith(b"--"):
            continue
        if piece != b";":
            words.append(piece)
            continue
        if statement := b"".join(words).strip():
            yield statement
        words = []


def from_dump(session: psycopg.Connection[Row], name: str, script: bytes) -> DatabaseProperties:
    """Make the empty database ``name`` as in a dump (``script``: the result of ``own_script``). If the server lacks its
    locale or tablespace, the server's defaults are used, with a warning."""
    properties, made = DatabaseProperties(), False
    for statement in statements(as_utf8(script)):
        found = _OF_DATABASE.match(statement)
        if found is None:
            if _SESSION.match(statement):
                properties.early.append(statement)
                properties.late.append(statement)
            continue
        ours = found["before"] + b" " + _bytes(quoted(name)) + found["after"]
        if statement.startswith(b"CREATE DATABASE"):
            _create(session, properties, ours)
            made = True
        elif setting := _SETS.match(found["after"]):
            key = setting[1].replace(b'"', b"").decode("utf-8", "replace")
            if _LIBRARIES.search(key):
                properties.warnings.append(
                    f"not set on the database: {_shown(ours)} (it loads a library; set it by hand)"
                )
                continue
            properties.add_setting(found["before"] + b" " + _bytes(quoted(name)), key, ours)
        else:
            late = statement.startswith(_COMMENT) or _LAST.match(found["after"])
            (properties.late if late else properties.early).append(ours)
    if not made:
        raise ToolFailed("the dump does not say how its database was made", on=name)
    return properties


def _create(session: psycopg.Connection[Row], properties: DatabaseProperties, statement: bytes) -> None:
    encoding = found[0] if (found := _OWN_ENCODING.search(statement)) else b""
    name = statement.split(b" WITH ", 1)[0]
    plain = re.sub(rb" TABLESPACE = " + _IDENTIFIER, b"", statement)
    tries = (statement, plain, name + b" WITH TEMPLATE = template0" + encoding,
             name + b" WITH TEMPLATE = template0" + encoding + b" LC_COLLATE = 'C' LC_CTYPE = 'C'")  # fmt: skip
    for number, one in enumerate(tries):
        try:
            with translating_errors("the database"):
                session.execute(_marked(one))
        except SourceUnavailable:
            raise
        except ScriptoriumError as error:
            if number == len(tries) - 1:
                raise
            if number == 0:
                properties.warnings.append(
                    f"the database has other properties than before: {_shown(statement)} ({_reason(error)})"
                )
            continue
        return
