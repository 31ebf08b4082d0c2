"""Whole databases: names, removal, comments, and the switch by renaming.

Renaming a database is transactional, so the switch is one transaction: the living database gets the name of a previous
one, the restored database gets the name of the living one. If we are killed, either both renames have happened or none.
The numbers of the databases, which were recorded before (see ``records.py``), show which.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from scriptorium.errors import LibraryBusy, RestoreFailed, ScriptoriumError
from scriptorium.failpoints import reach
from scriptorium.sources.postgres.connection import Address, Row, quoted, sql
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.records import number_of

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

_LONGEST_NAME = 63
PREVIOUS, DISPLACED = "_before_restore_", "_aside_"
_TIME = "%Y%m%d_%H%M%S"
_END_SESSIONS_SECONDS = 0.1


def named(base: str, ending: str) -> str:
    """A database's name from ``base`` and ``ending``. PostgreSQL allows 63 bytes: a longer name is cut between letters
    and gets a checksum of ``base``, so that two long names do not become the same."""
    whole = base + ending
    if len(whole.encode()) <= _LONGEST_NAME:
        return whole
    ending = f"~{hashlib.sha256(base.encode()).hexdigest()[:8]}{ending}"
    longest = _LONGEST_NAME - len(ending.encode())
    return base.encode()[:longest].decode("utf-8", "ignore") + ending


def free_name(session: psycopg.Connection[Row], base: str, now: datetime, kind: str = PREVIOUS) -> str:
    """A free name for the living database after a restore has replaced it. ``now`` in UTC; names contain seconds."""
    while exists(session, name := named(base, now.strftime(kind + _TIME))):
        now += timedelta(seconds=1)
    return name


def exists(session: psycopg.Connection[Row], name: str) -> bool:
    return session.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def drop(session: psycopg.Connection[Row], name: str) -> None:
    """Drop it, also if sessions are connected. It is no error if it does not exist."""
    if session.execute("SELECT FROM pg_database WHERE datname = %s AND datistemplate", (name,)).fetchone():
        session.execute(sql(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false"))  # a template cannot be dropped
    there = exists(session, name)
    session.execute(sql(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)"))
    if there:
        log.info("the database %s is dropped", name)


def require_creating(session: psycopg.Connection[Row], address: Address) -> None:
    """``RestoreFailed`` if the role may not create databases; called before anything is changed."""
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
    """What earlier versions wrote into the comment of a restored database after the switch. Now it is only read.

    ``previous``: the database that was replaced; ``comment``: the database's own comment."""

    restore: str
    previous: str | None
    comment: str | None

    @classmethod
    def read(cls, text: str | None) -> Mark | None:
        try:
            words = json.loads(text or "")["scriptorium"]
            return cls(str(words["restore"]), words["former"], words["comment"])
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def of(cls, session: psycopg.Connection[Row], name: str) -> Mark | None:
        return cls.read(comment_of(session, name))


def comment_of(session: psycopg.Connection[Row], name: str) -> str | None:
    """A database's comment, if it has one.

    The server stores it in the encoding of the database in whose session it was set. In a session of another database
    its bytes may not be valid text; such bytes are returned unchanged.
    """
    row = session.execute(
        "SELECT encode(textsend(shobj_description(oid, 'pg_database')), 'hex') FROM pg_database WHERE datname = %s",
        (name,),
    ).fetchone()
    return bytes.fromhex(str(row[0])).decode("utf-8", "surrogateescape") if row and row[0] is not None else None


def set_comment(session: psycopg.Connection[Row], name: str, comment: str | None) -> None:
    session.execute(sql(f"COMMENT ON DATABASE {quoted(name)} IS {literal(comment)}"))


def literal(text: str | None) -> str:
    """Text as an SQL literal."""
    if text is None:
        return "NULL"
    doubled = text.replace("'", "''")
    return " E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def switch(
    session: psycopg.Connection[Row], address: Address, renames: Sequence[tuple[str, str]], then: Mapping[str, int]
) -> None:
    """Rename databases in one transaction, while a second session ends the sessions in them.

    The rename keeps new sessions out and waits for the connected ones, which the second session ends.
    ``then``: by name, the number that the database of that name must have afterwards. If one has another number,
    nothing is renamed and ``RestoreFailed`` is raised.
    """
    old_names = [old for old, _ in renames]
    try:
        with _ending_sessions(address, old_names), session.transaction():
            for old, new in renames:
                session.execute(sql(f"ALTER DATABASE {quoted(old)} RENAME TO {quoted(new)}"))
            for name, number in then.items():
                if number_of(session, name) != number:
                    raise RestoreFailed("the database is not the one that was to be renamed", on=name)
            reach("database.renaming")
        log.info("databases are renamed: %s", ", ".join(f"{old} to {new}" for old, new in renames))
    except LibraryBusy as error:
        raise _busy(session, old_names, error) from error


def _busy(session: psycopg.Connection[Row], names: Sequence[str], error: LibraryBusy) -> LibraryBusy:
    rows = session.execute(
        "SELECT pid, usename, application_name FROM pg_stat_activity WHERE datname = ANY(%s)", (list(names),)
    )
    who = [f"process {pid} (user {user}, {program or 'no name'})" for pid, user, program in rows]
    return LibraryBusy(
        f"sessions could not be ended: {', '.join(who[:5])}" if who else error.what,
        on=error.on,
        hint="stop the application; to end others' sessions a role needs pg_signal_backend",
    )


@contextlib.contextmanager
def _ending_sessions(address: Address, names: Sequence[str]) -> Iterator[None]:
    """Until the block is left, end all sessions of the databases from a second session, again and again."""
    over = threading.Event()

    def work() -> None:
        with contextlib.suppress(ScriptoriumError), address.maintenance() as second:
            while True:
                rows = second.execute("SELECT pid FROM pg_stat_activity WHERE datname = ANY(%s)", (list(names),))
                for (pid,) in rows.fetchall():
                    with contextlib.suppress(ScriptoriumError), translating_errors(address):
                        second.execute("SELECT pg_terminate_backend(%s)", (pid,))
                if over.wait(_END_SESSIONS_SECONDS):
                    return

    thread = threading.Thread(target=work, daemon=True, name="ending sessions")
    thread.start()
    try:
        with translating_errors(address):
            yield
    finally:
        over.set()
        thread.join(timeout=10)
