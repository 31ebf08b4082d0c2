"""Databases as a whole: made like another, switched by renaming, former ones kept for a while.

Renaming a database is transactional, so the switch is one transaction: the living database gets the name of a former
one, the restored database gets the living one's name, and a mark in its comment says by which restore. Whatever
kills us, both renames happened or none.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from scriptorium.crashpoints import reach
from scriptorium.errors import LibraryBusy, NotFound, RestoreFailed, ScriptoriumError, ToolFailed
from scriptorium.sources.postgres_connection import Address, Row, quoted, sql
from scriptorium.sources.postgres_errors import in_our_words

if TYPE_CHECKING:
    import psycopg

_LONGEST_NAME = 63
_FORMER = "_before_restore_"
_TIME = "%Y%m%d_%H%M%S"
_SENDING_AWAY_SECONDS = 0.1
# These hold lists that are kept ready quoted; pg_dump has the same list.
_READY_LISTS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries",
                "shared_preload_libraries", "unix_socket_directories"}  # fmt: skip


def named(base: str, ending: str) -> str:
    """``base`` and ``ending`` as a database's name, the base cut (between letters) to what PostgreSQL allows."""
    room = _LONGEST_NAME - len(ending.encode())
    return base.encode()[:room].decode("utf-8", "ignore") + ending


def free_former_name(session: psycopg.Connection[Row], base: str, now: datetime) -> str:
    """What the living database is called once a restore has taken its place. ``now`` in UTC; names hold seconds."""
    while exists(session, name := named(base, now.strftime(_FORMER + _TIME))):
        now += timedelta(seconds=1)
    return name


def exists(session: psycopg.Connection[Row], name: str) -> bool:
    return session.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def drop(session: psycopg.Connection[Row], name: str) -> None:
    """Drop it, whoever is connected; one that is not there is no error."""
    session.execute(sql(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)"))


def former_databases(session: psycopg.Connection[Row], base: str) -> list[str]:
    """Those that restores replaced, newest first."""
    beginning = named(base, _FORMER + "00000000_000000")[:-15]
    rows = session.execute("SELECT datname::text FROM pg_database WHERE starts_with(datname::text, %s)", (beginning,))
    names = [str(row[0]) for row in rows]
    return sorted((name for name in names if re.fullmatch(r"\d{8}_\d{6}", name[len(beginning) :])), reverse=True)


def unfinished_databases(session: psycopg.Connection[Row], base: str) -> list[str]:
    """Those that a restore or a drill was loading when it was killed (or that one is loading now: hold the lock)."""
    beginning = named(base, f"_restore_{'0' * 12}")[:-12]
    rows = session.execute("SELECT datname::text FROM pg_database WHERE starts_with(datname::text, %s)", (beginning,))
    names = sorted(str(row[0]) for row in rows)
    return [name for name in names if re.fullmatch(r"[0-9a-f]{12}", name[len(beginning) :])]


def require_creating(session: psycopg.Connection[Row], address: Address) -> None:
    """``RestoreFailed`` where the role may not create databases, before anything happens."""
    row = session.execute(
        "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
    ).fetchone()  # fmt: skip
    if not row or not row[0]:
        raise RestoreFailed(
            "this role may not create databases, so nothing can be restored beside the living one",
            on=str(address),
            hint="ALTER ROLE … CREATEDB, or restore into the living database in one transaction with --clean",
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """What the comment of a database says that a restore has just put in place."""

    restore: str
    former: str | None
    comment: str | None

    def written(self) -> str:
        return json.dumps({"scriptorium": {"restore": self.restore, "former": self.former, "comment": self.comment}})

    @classmethod
    def of(cls, session: psycopg.Connection[Row], name: str) -> Mark | None:
        try:
            words = json.loads(comment_of(session, name) or "")["scriptorium"]
            return cls(str(words["restore"]), words["former"], words["comment"])
        except (ValueError, KeyError, TypeError):
            return None


def comment_of(session: psycopg.Connection[Row], name: str) -> str | None:
    """A database's comment, if it has one."""
    row = session.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (name,)
    ).fetchone()
    return str(row[0]) if row and row[0] is not None else None


def set_comment(session: psycopg.Connection[Row], name: str, comment: str | None) -> None:
    session.execute(sql(f"COMMENT ON DATABASE {quoted(name)} IS {literal(comment)}"))


def literal(text: str | None) -> str:
    """Text as an SQL literal."""
    if text is None:
        return "NULL"
    doubled = text.replace("'", "''")
    return " E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def switch(
    session: psycopg.Connection[Row], address: Address, renames: Sequence[tuple[str, str]], mark: tuple[str, str | None]
) -> None:
    """Rename databases in one transaction, their sessions sent away meanwhile; ``mark``: a database and its comment.

    The rename locks the database against newcomers and waits for those who are in it: they are being sent away.
    """
    gone = [old for old, _ in renames]
    try:
        with _sending_away(address, gone), session.transaction():
            for old, new in renames:
                session.execute(sql(f"ALTER DATABASE {quoted(old)} RENAME TO {quoted(new)}"))
            set_comment(session, *mark)
            reach("database.renaming")
    except LibraryBusy as error:
        raise _busy(session, gone, error) from error


def _busy(session: psycopg.Connection[Row], names: Sequence[str], error: LibraryBusy) -> LibraryBusy:
    rows = session.execute(
        "SELECT pid, usename, application_name FROM pg_stat_activity WHERE datname = ANY(%s)", (list(names),)
    )
    who = [f"process {pid} (user {user}, {program or 'no name'})" for pid, user, program in rows]
    return LibraryBusy(
        f"sessions could not be sent away: {', '.join(who[:5])}" if who else error.what,
        on=error.on,
        hint="stop the application; to end others' sessions a role needs pg_signal_backend",
    )


@contextlib.contextmanager
def _sending_away(address: Address, names: Sequence[str]) -> Iterator[None]:
    """From a second session, end those of the databases, again and again, until the block is left."""
    over = threading.Event()

    def work() -> None:
        with contextlib.suppress(ScriptoriumError), address.maintenance() as second:
            while True:
                rows = second.execute("SELECT pid FROM pg_stat_activity WHERE datname = ANY(%s)", (list(names),))
                for (pid,) in rows.fetchall():
                    with contextlib.suppress(ScriptoriumError), in_our_words(address):
                        second.execute("SELECT pg_terminate_backend(%s)", (pid,))
                if over.wait(_SENDING_AWAY_SECONDS):
                    return

    thread = threading.Thread(target=work, daemon=True, name="sending sessions away")
    thread.start()
    try:
        with in_our_words(address):
            yield
    finally:
        over.set()
        thread.join(timeout=10)


def create_like(session: psycopg.Connection[Row], name: str, model: str) -> None:
    """A new empty database with the owner, encoding, locale and tablespace of another one on this server."""
    row = session.execute(
        "SELECT pg_get_userbyid(d.datdba)::text, pg_encoding_to_char(d.encoding)::text, d.datcollate::text, "
        "d.datctype::text, CASE WHEN d.dattablespace <> base.dattablespace THEN t.spcname::text END, "
        "to_jsonb(d) ->> 'datlocprovider', "
        "coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') "  # 17 renamed what 15 brought
        "FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace "
        "JOIN pg_database base ON base.datname = 'template0' WHERE d.datname = %s",
        (model,),
    ).fetchone()
    if row is None:
        raise NotFound("there is no such database", on=model)
    owner, encoding, collate, ctype, tablespace, kind, own_locale = (str(one) if one is not None else "" for one in row)
    words = [f"TEMPLATE template0 OWNER {quoted(owner)} ENCODING {literal(encoding)}"]
    if tablespace:  # naming the usual one asks for a right that few roles have
        words.append(f"TABLESPACE {quoted(tablespace)}")
    words.append(f"LC_COLLATE {literal(collate)} LC_CTYPE {literal(ctype)}")
    if kind == "i":
        words.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(own_locale)}")
    elif kind == "b":
        words.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(own_locale)}")
    session.execute(sql(f"CREATE DATABASE {quoted(name)} {' '.join(words)}"))


def dress_like(session: psycopg.Connection[Row], name: str, model: str) -> str | None:
    """Give a database the grants and settings of another one; returns the other one's comment."""
    for statement in _settings(session, name, model):
        session.execute(sql(statement))
    grants = session.execute(
        "SELECT a.privilege_type, a.is_grantable, "
        "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END "
        "FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = %s",
        (model,),
    ).fetchall()
    if grants:
        session.execute(sql(f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC"))
    for privilege, grantable, grantee in grants:
        more = " WITH GRANT OPTION" if grantable else ""
        session.execute(sql(f"GRANT {privilege} ON DATABASE {quoted(name)} TO {grantee}{more}"))
    row = session.execute("SELECT datconnlimit FROM pg_database WHERE datname = %s", (model,)).fetchone()
    session.execute(sql(f"ALTER DATABASE {quoted(name)} CONNECTION LIMIT {row[0] if row else -1}"))
    return comment_of(session, model)


def _settings(session: psycopg.Connection[Row], name: str, model: str) -> Iterator[str]:
    rows = session.execute(
        "SELECT CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole)::text END, s.setconfig "
        "FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s",
        (model,),
    ).fetchall()
    for role, words in rows:
        assert isinstance(words, list)
        for word in words:
            key, _, value = str(word).partition("=")
            whose = f"ROLE {quoted(str(role))} IN DATABASE {quoted(name)}" if role else f"DATABASE {quoted(name)}"
            ready = value if key in _READY_LISTS else literal(value)
            yield f"ALTER {whose} SET {quoted(*key.split('.'))} TO {ready}"


def create_from(session: psycopg.Connection[Row], name: str, script: str) -> None:
    """A new empty database as a dump's own CREATE DATABASE has it (``script``: ``pg_restore --create``'s);
    where the server lacks its locale, with the server's own."""
    match = re.search(r'^CREATE DATABASE ("(?:[^"]|"")*"|\S+) (WITH .*);$', script, re.MULTILINE)
    if match is None:
        raise ToolFailed("the dump does not say how its database was made", on=name)
    encoding = re.search(r"ENCODING = ('[^']*')", match[2])
    try:
        with in_our_words(name):
            session.execute(sql(f"CREATE DATABASE {quoted(name)} {match[2]}"))
    except ScriptoriumError:
        fallback = f" ENCODING {encoding[1]}" if encoding else ""
        session.execute(sql(f"CREATE DATABASE {quoted(name)} TEMPLATE template0{fallback}"))
    for line in script.splitlines():
        if line.startswith((f"ALTER DATABASE {match[1]} SET", f"ALTER DATABASE {match[1]} OWNER TO")):
            with contextlib.suppress(ScriptoriumError), in_our_words(name):  # a role or setting of another server
                session.execute(sql(line.replace(f"DATABASE {match[1]} ", f"DATABASE {quoted(name)} ", 1)))
