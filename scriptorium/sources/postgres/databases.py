"""Databases as a whole: made like another, switched by renaming, previous ones kept for a while.

Renaming a database is transactional, so the switch is one transaction: the living database gets the name of a previous
one, the restored database gets the living one's name. Whenever we are killed, either both renames happened or none. The
numbers of the databases, which were recorded before (see ``records.py``), show which.
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
from scriptorium.sources.postgres.errors import in_our_words
from scriptorium.sources.postgres.records import number_of

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

_LONGEST_NAME = 63
PREVIOUS, DISPLACED = "_before_restore_", "_aside_"
_TIME = "%Y%m%d_%H%M%S"
_SENDING_AWAY_SECONDS = 0.1


def named(base: str, ending: str) -> str:
    """``base`` and ``ending`` as a database's name. One that is too long for PostgreSQL (63 bytes) is cut between
    letters, and what was cut stands for itself as a checksum: names that begin alike do not become the same."""
    whole = base + ending
    if len(whole.encode()) <= _LONGEST_NAME:
        return whole
    ending = f"~{hashlib.sha256(base.encode()).hexdigest()[:8]}{ending}"
    longest = _LONGEST_NAME - len(ending.encode())
    return base.encode()[:longest].decode("utf-8", "ignore") + ending


def free_name(session: psycopg.Connection[Row], base: str, now: datetime, kind: str = PREVIOUS) -> str:
    """What the living database is called once a restore has taken its place. ``now`` in UTC; names hold seconds."""
    while exists(session, name := named(base, now.strftime(kind + _TIME))):
        now += timedelta(seconds=1)
    return name


def exists(session: psycopg.Connection[Row], name: str) -> bool:
    return session.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def drop(session: psycopg.Connection[Row], name: str) -> None:
    """Drop it, whoever is connected; one that is not there is no error."""
    if session.execute("SELECT FROM pg_database WHERE datname = %s AND datistemplate", (name,)).fetchone():
        session.execute(sql(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false"))  # the server drops no template
    there = exists(session, name)
    session.execute(sql(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)"))
    if there:
        log.info("the database %s is dropped", name)


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
    """What earlier versions wrote into the comment of a database that a restore had just put in place; it is only read.

    ``previous``: the database that was replaced, ``comment``: the database's own."""

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

    It is kept in the encoding of the database in whose session it was made. Read in a session of another one, its bytes
    may mean nothing: those are kept as they are.
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

    The rename locks out new sessions and waits for the connected ones, which the second session ends.
    ``then``: the number of the database that has a name afterwards; where it is another, nothing was renamed and
    ``RestoreFailed`` is raised.
    """
    gone = [old for old, _ in renames]
    try:
        with _sending_away(address, gone), session.transaction():
            for old, new in renames:
                session.execute(sql(f"ALTER DATABASE {quoted(old)} RENAME TO {quoted(new)}"))
            for name, number in then.items():
                if number_of(session, name) != number:
                    raise RestoreFailed("the database is not the one that was to be renamed", on=name)
            reach("database.renaming")
        log.info("databases are renamed: %s", ", ".join(f"{old} to {new}" for old, new in renames))
    except LibraryBusy as error:
        raise _busy(session, gone, error) from error


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
