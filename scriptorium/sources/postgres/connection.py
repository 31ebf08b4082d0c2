"""Connections to a PostgreSQL server: address, sessions, translated errors.

An address is anything that libpq understands (a URL, ``key=value`` words, a service, or only libpq's own variables).
The password never enters an argument list, a log or an error: children get it as ``PGPASSWORD``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, LiteralString

from scriptorium.errors import NotFound, PermanentError, ScriptoriumError
from scriptorium.sources.postgres.encodings import read_any_bytes
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.pooler import require_own_session, reset_session

if TYPE_CHECKING:
    import psycopg

Row = tuple[object, ...]

# A server that vanished is an error after two minutes (see login.py), also while data is being sent to it.
# Programs that send much do not get this limit: a busy server may not read for so long, and the kernel would take it
# for one that vanished.
_UNHEARD = {"tcp_user_timeout": "120000"}  # milliseconds
_ENDING = 1.0  # seconds that the session of an ended child may last on the server
_BYTES = "SQL_ASCII"
_MAINTENANCE = ("postgres", "template1")
# Settings that decide how a value is written as text; and timeouts, because a server's defaults may be too short.
PLAIN_SESSION: Mapping[str, str] = {
    "search_path": "",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "row_security": "off",
    "jit": "off",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "default_transaction_read_only": "off",
    "synchronize_seqscans": "off",
}
# The same for programs that load data, as words of PGOPTIONS. The database and the role may have settings that such a
# program does not reset, or resets too late.
PLAIN_PROGRAM = (
    "-c default_transaction_read_only=off",
    "-c array_nulls=on",
    "-c statement_timeout=0",
    "-c idle_in_transaction_session_timeout=0",
)


@dataclass(frozen=True, slots=True)
class Address:
    """``words``: libpq's words, without any secret. ``password``: empty if libpq finds it. ``pooled``: the address is
    that of a pooler which keeps one session of the server for each client (the setting ``pooler``)."""

    words: Mapping[str, str]
    password: str = field(default="", repr=False)
    pooled: bool = False

    def of(self, database: str) -> Address:
        """The same server, another database."""
        return replace(self, words={**self.words, "dbname": database})

    def resolved(self) -> Address:
        """The same with the name of the database, which libpq may take from its variables or a service."""
        import psycopg

        if self.words.get("dbname"):
            return self
        try:
            with self.session() as session:
                return self.of(session.info.dbname)
        except NotFound:
            defaults = {one.keyword: one.val for one in psycopg.pq.Conninfo.get_defaults()}
            found = defaults.get(b"dbname") or (self.words.get("user") or "").encode() or defaults.get(b"user")
            return self.of((found or b"postgres").decode())

    @property
    def plain(self) -> str:
        """libpq's words without any secret: safe for argument lists and messages."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo("", **dict(self.words))

    def of_child(self, application: str, *, sends: bool = False) -> str:
        """The same for a child process. Its sessions get the name ``application``, also if a service or URL has one.
        ``sends``: whether the child sends much data to the server."""
        words = self.words if sends else {**_UNHEARD, **self.words}
        return replace(self, words={**words, "application_name": application}).plain

    def __str__(self) -> str:
        words = self.words
        service = f"service {words['service']}" if "service" in words else ""
        place = words.get("host") or words.get("hostaddr") or service
        port = f":{words['port']}" if "port" in words else ""
        return f"{words.get('dbname', 'the default database')} at {place or 'the local server'}{port}"

    def environment(self, application: str = "scriptorium") -> dict[str, str]:
        """Environment variables for a child: the password, and the name of its sessions on the server."""
        known = {"PGAPPNAME": application, "PGCLIENTENCODING": "UTF8", "LC_ALL": "C"}
        return known | ({"PGPASSWORD": self.password} if self.password else {})

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.password,) if self.password else ()

    @contextlib.contextmanager
    def session(
        self, *, application: str = "scriptorium", autocommit: bool = True
    ) -> Iterator[psycopg.Connection[Row]]:
        """A connection with the settings of ``PLAIN_SESSION``, closed at the end; errors are translated."""
        with translating_errors(self):
            connection = self.open(application=application, autocommit=autocommit)
            try:
                yield connection
            finally:
                if self.pooled:
                    reset_session(connection)
                connection.close()

    def open(self, *, application: str = "scriptorium", autocommit: bool = True) -> psycopg.Connection[Row]:
        """A connection that the caller closes. Raises psycopg's errors (see ``translating_errors``). Raises
        ``SettingsError`` for a connection pooler, before anything is set in the session."""
        connection = self._connected()
        try:
            require_own_session(connection, self, declared=self.pooled, again=self._connected)
            own = connection.info.parameter_status("server_encoding")
            encoding = own if own == _BYTES else "UTF8"  # bytes of unknown encoding cannot be converted to UTF-8
            settings = {"application_name": application, "client_encoding": encoding, **PLAIN_SESSION}
            settings = {"statement_timeout": "0"} | settings  # first: the database's own may cut short what follows
            if connection.info.server_version >= 170000:
                settings["transaction_timeout"] = "0"
            for key, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, false)", (key, value))
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def _connected(self) -> psycopg.Connection[Row]:
        """A connection without our settings: a pooler would pass on those of the first packet."""
        import psycopg

        more = {"password": self.password} if self.password else {}
        given = {key: value for key, value in self.words.items() if key not in ("application_name", "client_encoding")}
        words = {**_UNHEARD, **given, **more}
        until = time.monotonic() + _ENDING
        while True:
            try:
                connection: psycopg.Connection[Row] = psycopg.connect("", autocommit=True, **words)  # type: ignore[arg-type]
                break
            except psycopg.OperationalError as error:
                if "too many connections" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.1)  # the session of a child of ours that has ended may still count
        read_any_bytes(connection)
        return connection

    @contextlib.contextmanager
    def maintenance(self) -> Iterator[psycopg.Connection[Row]]:
        """A connection to another database of this server than the library's."""
        living = self.words.get("dbname")
        last: ScriptoriumError | None = None
        for name in _MAINTENANCE:
            if name == living:
                continue
            elsewhere = self.of(name)
            try:
                with translating_errors(elsewhere):
                    connection = elsewhere.open()
            except (NotFound, PermanentError) as error:
                last = last or error
                continue
            try:
                with translating_errors(elsewhere):
                    yield connection
            finally:
                if self.pooled:
                    reset_session(connection)
                connection.close()
            return
        raise last or NotFound("the server has no other database to work from", on=str(self))


def sql(text: str) -> LiteralString:
    """Mark a statement that was composed of quoted names as one that may be executed. It is bytes, because a name may
    not be valid UTF-8."""
    return text.encode("utf-8", "surrogateescape")  # type: ignore[return-value]


def quoted(*names: str) -> str:
    """Names as SQL identifiers, joined by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
