"""The way to a PostgreSQL server: address, sessions, and its errors in our words.

An address is whatever libpq understands (a URL, ``key=value`` words, a service, nothing but libpq's own variables).
The password never enters an argument list, a log or an error: children get it as ``PGPASSWORD``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, LiteralString

from scriptorium.errors import NotFound, PermanentError, ScriptoriumError
from scriptorium.sources.postgres.encodings import read_any_bytes
from scriptorium.sources.postgres.errors import in_our_words
from scriptorium.sources.postgres.pooler import forget, require_own_session

if TYPE_CHECKING:
    import psycopg

Row = tuple[object, ...]

# A server that vanished is an error after two minutes (see login.py), also while data is being sent to it.
# Not for what sends much: the kernel takes a server that is busy, and does not read for so long, for one that is gone.
_UNHEARD = {"tcp_user_timeout": "120000"}  # milliseconds
_BYTES = "SQL_ASCII"
_MAINTENANCE = ("postgres", "template1")
# Settings that decide how a value is written as text, and waits that must not be cut short by a server's defaults.
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
# The same for programs that load: the database and the role may have settings that a program does not reset, or not
# before its first statement. As words of PGOPTIONS.
PLAIN_PROGRAM = (
    "-c default_transaction_read_only=off",
    "-c array_nulls=on",
    "-c statement_timeout=0",
    "-c idle_in_transaction_session_timeout=0",
)


@dataclass(frozen=True, slots=True)
class Address:
    """Resolved: libpq's words without any secret, and the password (empty: libpq finds its own). ``pooled``: a pooler
    that keeps a session of the server for each client is meant (the setting ``pooler``)."""

    words: Mapping[str, str]
    password: str = field(default="", repr=False)
    pooled: bool = False

    def of(self, database: str) -> Address:
        """The same server, another database."""
        return replace(self, words={**self.words, "dbname": database})

    def resolved(self) -> Address:
        """With the database's name filled in where libpq finds it itself (its variables, a service)."""
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
        """As libpq's words, without any secret: fit for an argument list and for people."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo("", **dict(self.words))

    def of_child(self, application: str, *, sends: bool = False) -> str:
        """The same for a child: the name of its sessions comes before the one that a service or a URL may have.
        ``sends``: whether it sends much to the server."""
        words = self.words if sends else {**_UNHEARD, **self.words}
        return replace(self, words={**words, "application_name": application}).plain

    def __str__(self) -> str:
        words = self.words
        service = f"service {words['service']}" if "service" in words else ""
        place = words.get("host") or words.get("hostaddr") or service
        port = f":{words['port']}" if "port" in words else ""
        return f"{words.get('dbname', 'the default database')} at {place or 'the local server'}{port}"

    def environment(self, application: str = "scriptorium") -> dict[str, str]:
        """Variables for a child: the secret, and the name by which its sessions are known on the server."""
        known = {"PGAPPNAME": application, "PGCLIENTENCODING": "UTF8", "LC_ALL": "C"}
        return known | ({"PGPASSWORD": self.password} if self.password else {})

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.password,) if self.password else ()

    @contextlib.contextmanager
    def session(
        self, *, application: str = "scriptorium", autocommit: bool = True
    ) -> Iterator[psycopg.Connection[Row]]:
        """A connection with plain text settings, closed at the end; errors come out in our words."""
        with in_our_words(self):
            connection = self.open(application=application, autocommit=autocommit)
            try:
                yield connection
            finally:
                if self.pooled:
                    forget(connection)
                connection.close()

    def open(self, *, application: str = "scriptorium", autocommit: bool = True) -> psycopg.Connection[Row]:
        """A connection that the caller closes; raises psycopg's errors (see ``in_our_words``), and ``SettingsError``
        where a connection pooler stands between, before anything was set in the session."""
        connection = self._connected()
        try:
            require_own_session(connection, self, declared=self.pooled, again=self._connected)
            own = connection.info.parameter_status("server_encoding")
            encoding = own if own == _BYTES else "UTF8"  # which knows no names of other bytes than its own
            settings = {"application_name": application, "client_encoding": encoding, **PLAIN_SESSION}
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
        """With no setting of ours yet: a pooler would pass those of the first packet on as well."""
        import psycopg

        more = {"password": self.password} if self.password else {}
        given = {key: value for key, value in self.words.items() if key not in ("application_name", "client_encoding")}
        words = {**_UNHEARD, **given, **more}
        connection: psycopg.Connection[Row] = psycopg.connect("", autocommit=True, **words)  # type: ignore[arg-type]
        read_any_bytes(connection)
        return connection

    @contextlib.contextmanager
    def maintenance(self) -> Iterator[psycopg.Connection[Row]]:
        """A connection to a database of this server that is not the library's own."""
        living = self.words.get("dbname")
        last: ScriptoriumError | None = None
        for name in _MAINTENANCE:
            if name == living:
                continue
            elsewhere = self.of(name)
            try:
                with in_our_words(elsewhere):
                    connection = elsewhere.open()
            except (NotFound, PermanentError) as error:
                last = last or error
                continue
            try:
                with in_our_words(elsewhere):
                    yield connection
            finally:
                if self.pooled:
                    forget(connection)
                connection.close()
            return
        raise last or NotFound("the server has no other database to work from", on=str(self))


def sql(text: str) -> LiteralString:
    """Mark a statement that was composed of quoted names as one that may be executed. As bytes: a name may be none that
    UTF-8 knows."""
    return text.encode("utf-8", "surrogateescape")  # type: ignore[return-value]


def quoted(*names: str) -> str:
    """Names as SQL identifiers, joined by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
