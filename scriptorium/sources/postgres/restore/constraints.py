"""Objects that ``pg_restore`` fails to make: they are tried again with the database's ``search_path``, then one by one.

Many databases contain rows that break a constraint (loaded with triggers off, or before a function was replaced), and
``pg_dump`` saves them. By default the restore ends and names every such constraint. With the option all rows are
restored: foreign keys and checks are made for new rows only (NOT VALID), unique constraints are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scriptorium.errors import RestoreFailed, ToolFailed
from scriptorium.sources.postgres.computing import of_the_session
from scriptorium.sources.postgres.connection import Address, Row, sql
from scriptorium.sources.postgres.encodings import as_utf8, codec_of
from scriptorium.sources.postgres.errors import translating_errors
from scriptorium.sources.postgres.fingerprint import written
from scriptorium.sources.postgres.own_names import own_path
from scriptorium.sources.postgres.properties import statements
from scriptorium.sources.postgres.restore.rejected_rows import Table, load_without_checks
from scriptorium.sources.postgres.toc import read_toc

if TYPE_CHECKING:
    import psycopg

OPTION = "--without-broken-constraints"
BREAKABLE = ("FK CONSTRAINT", "CHECK CONSTRAINT", "CONSTRAINT", "INDEX ATTACH", "INDEX")
FOLLOWING = ("COMMENT", "STATISTICS", "PUBLICATION TABLE")
VIEW = "MATERIALIZED VIEW DATA"
_KIND = re.compile(rf"\d+; \d+ \d+ (?P<kind>{'|'.join((*BREAKABLE, *FOLLOWING, VIEW, 'TABLE DATA'))}) (?P<rest>.*)")
_SETTING = re.compile(rb"SET |SELECT pg_catalog\.set_config|RESET ")
# Classes of SQLSTATEs that mean: rows break the constraint, or a function that it calls fails. All are permanent.
_BROKEN = ("21", "22", "23", "2F", "38", "39", "42", "P0")
_NO_RIGHT = "42501"


class EntriesFailed(ToolFailed):
    """pg_restore failed at some ``entries`` of the dump (their numbers); all others are restored."""

    def __init__(self, what: str, *, on: str = "", hint: str = "", entries: frozenset[int] = frozenset()) -> None:
        super().__init__(what, on=on, hint=hint)
        self.entries = entries

    def _more(self) -> dict[str, Any]:
        return {"entries": self.entries}


@dataclass(slots=True)
class RestoreNotes:
    """What a restore has to report. ``broken``: constraints that do not hold, with the reason; ``warnings``: what
    differs from before; ``missing``: tables without a fingerprint, and why; ``rebuilt``: views that have other rows
    because they were filled again, and why."""

    broken: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    rebuilt: dict[str, str] = field(default_factory=dict)

    def require(self, address: Address) -> None:
        """Raises ``RestoreFailed``, which names every constraint that does not hold."""
        if self.broken:
            raise RestoreFailed(
                f"constraints do not hold in the data of the backup: {'; '.join(self.broken)}",
                on=str(address),
                hint=f"nothing was replaced. {OPTION} restores all rows: foreign keys and checks are then made for new "
                "rows only (NOT VALID), and unique constraints are left out",
            )


class RetryingRestorer(Protocol):
    """The part of the restorer that a second try needs."""

    @property
    def address(self) -> Address: ...
    @property
    def without_broken(self) -> bool: ...
    @property
    def notes(self) -> RestoreNotes: ...
    def lines(self, dump: Path, numbers: frozenset[int]) -> list[str]: ...
    def script(self, dump: Path, line: str) -> bytes: ...
    def retry(self, dump: Path, lines: Sequence[str], path: str) -> None: ...


def retry_entries(restorer: RetryingRestorer, dump: Path, failure: EntriesFailed) -> None:
    """Try again to make the entries that failed. Raises an error for those that cannot be made or left out."""
    lines = restorer.lines(dump, failure.entries)
    with restorer.address.session() as session:
        path = own_path(session)
        session.execute("SELECT set_config('search_path', %s, false)", (path,))
        if not all(kind_of(line) == "FK CONSTRAINT" for line in lines):
            try:
                restorer.retry(dump, lines, path)
                return
            except EntriesFailed as second:
                if not second.entries:
                    raise
                failure, lines = second, restorer.lines(dump, second.entries)
        tables = [line for line in lines if kind_of(line) == "TABLE DATA"]
        if tables:
            _load(restorer, session, dump, tables, path, failure)
        for line in lines:
            if line not in tables:
                _make(restorer, session, dump, line, failure)


def kind_of(line: str) -> str:
    """The kind of a line of the table of contents, if it is one that may fail because of rows; else empty."""
    found = _KIND.match(line)
    return found["kind"] if found else ""


def name_of(line: str) -> str:
    """Kind, schema and name from a line of the table of contents, without number and owner."""
    return " ".join(line.split("; ", 1)[1].split(" ")[2:-1])


def _load(
    restorer: RetryingRestorer,
    session: psycopg.Connection[Row],
    dump: Path,
    lines: list[str],
    path: str,
    failure: EntriesFailed,
) -> None:
    tables = _tables(dump, lines)
    if not restorer.without_broken:
        raise RestoreFailed(
            f"rows of {', '.join(written(*table) for table in tables)} do not fit their table: {failure.what}",
            on=str(restorer.address),
            hint=f"nothing was replaced. {OPTION} loads them without the checks and generated values that fail",
        ) from failure
    left = lines

    def load() -> None:
        nonlocal left
        try:
            restorer.retry(dump, left, path)
        except EntriesFailed as failed:
            left = restorer.lines(dump, failed.entries)  # the others are loaded, and must not be loaded twice
            raise

    with translating_errors(restorer.address):
        restorer.notes.warnings += load_without_checks(session, tables, load)


def _tables(dump: Path, lines: Iterable[str]) -> list[Table]:
    """Schema and name of the tables of these lines. They are read from the dump, because names may contain blanks."""
    numbers = {int(line.split(";", 1)[0]) for line in lines}
    entries = read_toc(dump)
    codec = codec_of(b"".join(entry.define for entry in entries if entry.what == b"ENCODING"))
    return [
        (entry.schema.decode(codec, "replace"), entry.name.decode(codec, "replace"))
        for entry in entries
        if entry.number in numbers
    ]


def _make(
    restorer: RetryingRestorer, session: psycopg.Connection[Row], dump: Path, line: str, failure: EntriesFailed
) -> None:
    """Make one entry by its own statements: their errors have an SQLSTATE, which does not depend on the language."""
    import psycopg

    kind, notes = kind_of(line), restorer.notes
    if not kind:
        raise failure
    name = name_of(line)
    for statement in _statements(restorer.script(dump, line)):
        try:
            session.execute(sql(statement))
        except psycopg.Error as error:
            reason = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
            if kind == VIEW and not of_the_session(session, error):
                notes.warnings.append(f"{name}: the view stays empty: {reason}")
            elif kind in BREAKABLE and _is_broken(error.sqlstate or ""):
                _leave_out(restorer, session, kind, name, statement, reason)
            elif kind in FOLLOWING and (notes.broken or notes.warnings):
                notes.warnings.append(f"{name} is left out: {reason}")
            else:
                with translating_errors(restorer.address):
                    raise
            return


def _is_broken(state: str) -> bool:
    return state.startswith(_BROKEN) and state != _NO_RIGHT


def _statements(script: bytes) -> Iterator[str]:
    for statement in statements(as_utf8(script)):
        if not _SETTING.match(statement):
            yield statement.decode("utf-8", "surrogateescape")


def _leave_out(
    restorer: RetryingRestorer, session: psycopg.Connection[Row], kind: str, name: str, statement: str, reason: str
) -> None:
    import psycopg

    if not restorer.without_broken:
        restorer.notes.broken.append(f"{name} ({reason})")
        return
    if kind in ("FK CONSTRAINT", "CHECK CONSTRAINT"):
        try:
            session.execute(sql(f"{statement} NOT VALID"))
            restorer.notes.warnings.append(f"{name} does not hold ({reason}): made NOT VALID, for new rows only")
            return
        except psycopg.Error:  # a foreign key of a partitioned table cannot be NOT VALID
            pass
    restorer.notes.warnings.append(f"{name} does not hold ({reason}): it is left out")
