"""Errors of a PostgreSQL server and its programs, translated into ours: whether they are transient, what to do next.

A statement's error has an SQLSTATE, which does not depend on the language. Programs and refused logins only have text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scriptorium import process
from scriptorium.errors import (
    LibraryBusy,
    NoSpace,
    NotFound,
    PermanentError,
    ScriptoriumError,
    SettingsError,
    SnapshotBusy,
    SourceDamaged,
    SourceUnavailable,
    ToolFailed,
)

DEPENDED_ON = "an object that is not in the backup depends on an object that is to be replaced"
_QUOTE = 300


@dataclass(frozen=True, slots=True)
class _KnownError:
    """One kind of error: how it is recognised (prefixes of SQLSTATE, words), and what it means."""

    states: tuple[str, ...]
    words: str
    kind: type[ScriptoriumError]
    what: str
    hint: str


_KNOWN = (
    _KnownError(
        ("28",),
        r"password authentication failed|no password supplied|authentication failed",
        PermanentError,
        "the server refuses the password",
        "check the user, and password_file, PGPASSWORD or ~/.pgpass",
    ),
    _KnownError(
        (),
        r"unsupported startup parameter",  # only a pooler reports this
        SettingsError,
        "the address leads to a connection pooler, not to the server",
        "connect directly: name the host and the port of the server itself",
    ),
    _KnownError(
        (),
        r"no pg_hba\.conf entry",
        PermanentError,
        "the server does not let this user in from here",
        "add a line for this user and address to its pg_hba.conf",
    ),
    _KnownError(
        ("3D000",),
        r'database "[^"]*" does not exist',
        NotFound,
        "there is no such database",
        "check the address; one that was dropped comes back with: scriptorium restore",
    ),
    _KnownError((), r'role "[^"]*" does not exist', NotFound, "there is no such role", "check the user in the address"),
    _KnownError(
        ("53100",),
        r"No space left on device|disk full",
        NoSpace,
        "the disk became full",
        "free some space, on this machine or on the server's",
    ),
    _KnownError(
        ("42P04", "42P06", "42P07", "42710", "42723"),
        r"already exists",
        ToolFailed,
        "something that is to be restored is already there",
        "replace what is there with --clean, or restore to another database",
    ),
    _KnownError(
        (),
        r"max_locks_per_transaction",
        PermanentError,
        "the server cannot hold locks on that many tables at once",
        "raise max_locks_per_transaction in its postgresql.conf, and restart it",
    ),
    _KnownError(
        (),
        r"could not open output file|could not create directory",
        PermanentError,
        "the dump cannot be written",
        "check that this user may write into that folder",
    ),
    _KnownError(
        ("55P03",),
        r"lock timeout|could not obtain lock",
        SnapshotBusy,
        "a table is locked",
        "try again when the lock is gone",
    ),
    _KnownError(
        ("2BP01",),
        r"because other objects depend on it",
        ToolFailed,
        DEPENDED_ON,
        "restore without --clean, beside the living database, or drop it first",
    ),
    _KnownError(
        ("40P01",),
        r"deadlock detected",
        LibraryBusy,
        "two sessions of the server waited for each other",
        "try again",
    ),
    _KnownError(
        ("55006",),
        r"being accessed by other users",
        LibraryBusy,
        "the database is in use",
        "stop what uses it, and try again",
    ),
    _KnownError(
        (),
        r"affected by row-level security",
        PermanentError,
        "row level security hides rows from this role",
        "ALTER ROLE … BYPASSRLS, or use the tables' owner",
    ),
    _KnownError(
        ("42501",),
        r"permission denied|must be owner|must be superuser|must have|must be a member",
        PermanentError,
        "no right",
        "grant it to the role in the address (for reading: pg_read_all_data), or use another role",
    ),
    _KnownError(
        ("XX001", "XX002"),
        r"invalid page in block|checksum",
        SourceDamaged,
        "the database is damaged",
        "run: database check",
    ),
    _KnownError(
        ("53300",),
        r"too many (connections for|clients)|remaining connection slots|reserved for roles with|"
        r"sorry, too many clients",
        SourceUnavailable,
        "a connection limit is reached",
        "of the database (ALTER DATABASE … CONNECTION LIMIT), the role (ALTER ROLE … CONNECTION LIMIT) or the server "
        "(max_connections): raise it, or set fewer 'jobs'; two connections at once are needed",
    ),
    _KnownError(
        ("08", "57P", "25P03"),
        r"connection refused|could not connect|connection to server.*failed|closed the connection unexpectedly|"
        r"terminating connection|database system is|could not translate host|no connection to the server|"
        r"SSL SYSCALL|could not receive data|could not send data|"
        r'snapshot "[^"]*" does not exist|'  # the session that exported it is gone
        r"connection not open|consuming input failed|connection timeout|connection is (bad|lost|closed)|timed out",
        SourceUnavailable,
        "the server does not answer, or the connection broke",
        "is it running, and is this the right host and port?",
    ),
)

_NAME = re.compile(r'"[^"]*"')


def in_one_line(text: str, secrets: Sequence[str]) -> str:
    """The end of a program's messages, for a hint."""
    return process.mask(" ".join(text.split())[-_QUOTE:], secrets)


def translated(text: str, on: object, *, state: str = "", secrets: Sequence[str] = ()) -> ScriptoriumError:
    """The error for a message about ``on``; ``ToolFailed`` if it is of no known kind."""
    text = process.mask(" ".join(text.split()), secrets)
    quote = text if len(text) <= _QUOTE else f"…{text[-_QUOTE:]}"
    nameless = _NAME.sub('""', text)  # a table may be called "checksum"
    for known in _KNOWN:
        if state.startswith(known.states or ("?",)) or re.search(known.words, nameless, re.IGNORECASE):
            return known.kind(f"{known.what}: {quote}", on=str(on), hint=known.hint)
    return ToolFailed(quote, on=str(on))


@contextlib.contextmanager
def translating_errors(on: object, *, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Raise psycopg's errors as ours; a connection that was refused or lost is transient."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        text = str(error).strip().split("\nLINE")[0] or type(error).__name__
        ours = translated(text, on, state=error.sqlstate or "", secrets=secrets)
        if type(ours) is ToolFailed and isinstance(error, psycopg.OperationalError) and not error.sqlstate:
            ours = SourceUnavailable(ours.what, on=ours.on, hint="is the server running, and reachable from here?")
        raise ours from error
