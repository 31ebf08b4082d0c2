"""Whether a dump can be restored to a server, as far as that is known from its part, before the archive is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.errors import NotFound, RestoreFailed, ToolMissing
from scriptorium.model import Holder, Part
from scriptorium.sources.postgres.connection import Row
from scriptorium.sources.postgres.databases import require_creating
from scriptorium.sources.postgres.programs import Program, find, major_of
from scriptorium.sources.postgres.properties import settings_preflight
from scriptorium.sources.postgres.restore.requirements import Requirements, require
from scriptorium.sources.postgres.rights import closed_extensions, extensions_in
from scriptorium.sources.postgres.settings import PostgresSettings

if TYPE_CHECKING:
    import psycopg

_FIRST_OF_A_LAYOUT = (16, 17)  # these versions of pg_dump write a new layout that no older pg_restore can read
_SETS_TIMEOUT = 17  # from this version on programs set transaction_timeout: an error on older servers


@dataclass(frozen=True, slots=True)
class Dump:
    """The properties of a dump in its part: the major versions of its pg_dump (``writer``) and of its ``server`` (0:
    not known), the server's full version, and whether it is SQL."""

    writer: int
    server: int
    engine: str
    script: bool

    @classmethod
    def of(cls, part: Part) -> Dump:
        engine = part.engine_version or ""
        server = _major(engine)
        return cls(_major(part.provenance.dumper) or server, server, engine, part.provenance.script)

    @property
    def reader(self) -> int:
        """The oldest major version of a pg_restore that can read it. If its pg_dump is newer than all that are known
        here: the version of that pg_dump."""
        if self.writer > 18:
            return self.writer
        return max((first for first in _FIRST_OF_A_LAYOUT if first <= self.writer), default=0)


def _major(version: str) -> int:
    return int(number[0]) if (number := re.match(r"\d+", version)) else 0


def preconditions(source: PostgresSettings, part: Part) -> Mapping[str, Callable[[], str]]:
    """The preconditions of a restore of the part, by name; see ``Source.preconditions``."""
    dump = Dump.of(part)
    found: dict[str, Callable[[], str]] = {
        "server": lambda: _reachable(source),
        "psql" if dump.script else "pg_restore": lambda: _restorer(source, dump),
        "roles, tablespaces, extensions": lambda: _requirements(source, part),
        "settings of the database": lambda: _properties(source),
    }
    return found if source.target else found | {"sessions": lambda: _sessions(source)}


def _reachable(source: PostgresSettings) -> str:
    """The server answers, and this role may make a database there (not needed for ``in_place``)."""
    address = source.address().resolved()
    with address.maintenance() as session:
        if not source.in_place:
            require_creating(session, address)
        return f"PostgreSQL {session.info.parameter_status('server_version')} answers"


def _restorer(source: PostgresSettings, dump: Dump) -> str:
    with source.address().resolved().maintenance() as session:
        major = major_of(session.info.server_version)
    return restorer_at_hand(dump, major, source.tools, in_place=source.in_place)


def _requirements(source: PostgresSettings, part: Part) -> str:
    """The extensions are recorded in the part; roles and tablespaces are known only from the dump."""
    without = "; missing roles and tablespaces are left out" if source.without_roles else ""
    found = f"compared when the dump is unpacked, before anything is replaced{without}"
    address = source.address().resolved()
    if recorded := frozenset(part.provenance.extensions):
        with address.session() if source.in_place else address.maintenance() as session:
            require(session, Requirements(extensions=recorded), address, without=source.without_roles)
        return f"{found}; the extensions of the dump can be made ({', '.join(sorted(recorded))})"
    try:
        with address.session() as session:
            closed = closed_extensions(session, extensions_in(session))
    except NotFound:
        return found
    if not closed or source.in_place:
        return found
    return f"{found}; the living database has {', '.join(closed)}, which only a superuser can make"


def _properties(source: PostgresSettings) -> str:
    address = source.address().resolved()
    with address.maintenance() as session:
        return settings_preflight(session, address.words["dbname"], in_place=source.in_place)


def _sessions(source: PostgresSettings) -> str:
    address = source.address().resolved()
    name = address.words["dbname"]
    with address.maintenance() as session:
        count = len(list(sessions_in(session, name)))
    then = "they are ended at the switch"
    if source.in_place:
        then = f"the transaction waits up to {source.lock_timeout:g} s for what they have locked"
    return f"{count} open in {name}; {then}" if count else f"none open in {name}"


def restorer_at_hand(dump: Dump, major: int, tools: Path | None, *, in_place: bool) -> str:
    """The program that will restore the dump to a server of major version ``major``, and what may fail there.

    ``ToolMissing`` if no program can read it; ``RestoreFailed`` if none can restore it in one transaction
    (``in_place``).
    """
    if dump.script:
        return f"{find('psql', major, tools=tools)}{_older(dump, major)}"
    if in_place and dump.reader >= _SETS_TIMEOUT > major:
        raise RestoreFailed(
            f"a dump that pg_dump {dump.writer} wrote cannot be restored to a server of {major} in one transaction",
            hint="restore beside the living database instead: without --clean and in_place; the role needs CREATEDB",
        )
    program = _reader(dump, major, tools)
    if in_place and program.version[0] >= _SETS_TIMEOUT > major:
        raise ToolMissing(
            f"a pg_restore of {max(major, dump.reader)} to 16 is needed to restore in one transaction",
            on=str(program),
            hint=f"install it: apt-get install postgresql-client-{max(major, dump.reader)}",
        )
    return f"{program}{_older(dump, major)}"


def _reader(dump: Dump, major: int, tools: Path | None) -> Program:
    fitting = find("pg_restore", major, tools=tools)
    if fitting.version[0] >= dump.reader:
        return fitting
    try:
        return find("pg_restore", dump.reader, tools=tools)
    except ToolMissing as error:
        raise ToolMissing(
            f"pg_dump {dump.writer} wrote this dump; only pg_restore {dump.reader} or newer can read it, the newest "
            f"here is {fitting}",
            on=error.on,
            hint=error.hint,
        ) from error


def _older(dump: Dump, major: int) -> str:
    if dump.server <= major:
        return ""
    return (
        f"; the server ({major}) is older than that of the dump ({dump.engine}): objects that it does not know are "
        "found when the dump is loaded, before anything is replaced"
    )


def sessions_in(session: psycopg.Connection[Row], database: str) -> Iterator[Holder]:
    """The clients that are connected to the database, with the server's process for each."""
    rows = session.execute(
        "SELECT pid, coalesce(application_name, '') FROM pg_stat_activity WHERE datname = %s "
        "AND pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend' ORDER BY pid",
        (database,),
    ).fetchall()
    for pid, program in rows:
        yield Holder(int(str(pid)), str(program) or "a client", f"the database {database}")
