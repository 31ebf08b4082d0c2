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
from scriptorium.errors import LibraryBusy, RestoreFailed, ScriptoriumError
from scriptorium.sources.postgres_connection import Address, Row, quoted, sql
from scriptorium.sources.postgres_errors import in_our_words

if TYPE_CHECKING:
    import psycopg

_LONGEST_NAME = 63
_FORMER = "_before_restore_"
_TIME = "%Y%m%d_%H%M%S"
_SENDING_AWAY_SECONDS = 0.1


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
    if session.execute("SELECT FROM pg_database WHERE datname = %s AND datistemplate", (name,)).fetchone():
        session.execute(sql(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false"))  # the server drops no template
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
