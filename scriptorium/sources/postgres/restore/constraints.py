"""Objects that ``pg_restore`` fails to make: tried again with the database's own names, then one by one, then named.

Rows that break a constraint are in many databases (loaded with triggers off, or before a function was replaced), and
``pg_dump`` saves them. Without the user's word the restore ends, and names every such constraint. With it, the data
comes back whole: foreign keys and checks are made for new rows (NOT VALID), what must be unique is left out.
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
from scriptorium.sources.postgres.errors import in_our_words
from scriptorium.sources.postgres.fingerprint import written
from scriptorium.sources.postgres.own_names import own_path
from scriptorium.sources.postgres.properties import statements
from scriptorium.sources.postgres.restore.rejected_rows import Table, load_all_the_same
from scriptorium.sources.postgres.toc import read_toc

if TYPE_CHECKING:
    import psycopg

OPTION = "--without-broken-constraints"
BREAKABLE = ("FK CONSTRAINT", "CHECK CONSTRAINT", "CONSTRAINT", "INDEX ATTACH", "INDEX")
FOLLOWING = ("COMMENT", "STATISTICS", "PUBLICATION TABLE")
VIEW = "MATERIALIZED VIEW DATA"
_KIND = re.compile(rf"\d+; \d+ \d+ (?P<kind>{'|'.join((*BREAKABLE, *FOLLOWING, VIEW, 'TABLE DATA'))}) (?P<rest>.*)")
_SETTING = re.compile(rb"SET |SELECT pg_catalog\.set_config|RESET ")
# Classes of SQLSTATEs that say: these rows break it, or what it calls fails. None of them passes by itself.
_BROKEN = ("21", "22", "23", "2F", "38", "39", "42", "P0")
_NO_RIGHT = "42501"


class Stumbled(ToolFailed):
    """pg_restore failed at some ``entries`` of the dump, by their numbers in it; all others are made."""

    def __init__(self, what: str, *, on: str = "", hint: str = "", entries: frozenset[int] = frozenset()) -> None:
        super().__init__(what, on=on, hint=hint)
        self.entries = entries

    def _more(self) -> dict[str, Any]:
        return {"entries": self.entries}


@dataclass(slots=True)
class LeftOut:
    """``broken``: constraints that do not hold, with the reason; ``warnings``: what is not as it was; ``missing``: what
    has no fingerprint, and why; ``anew``: views that a restore fills with other rows, and why."""

    broken: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    anew: dict[str, str] = field(default_factory=dict)

    def require(self, address: Address) -> None:
        """``RestoreFailed`` names every constraint that does not hold."""
        if self.broken:
            raise RestoreFailed(
                f"constraints do not hold in the data of the backup: {'; '.join(self.broken)}",
                on=str(address),
                hint=f"nothing was replaced. {OPTION} restores all rows: foreign keys and checks are then made for new "
                "rows (NOT VALID), and what must be unique is left out",
            )


class Again(Protocol):
    """What a second try needs of the restorer."""

    @property
    def address(self) -> Address: ...
    @property
    def without_broken(self) -> bool: ...
    @property
    def told(self) -> LeftOut: ...
    def lines(self, dump: Path, numbers: frozenset[int]) -> list[str]: ...
    def script(self, dump: Path, line: str) -> bytes: ...
    def again(self, dump: Path, lines: Sequence[str], path: str) -> None: ...


def try_again(restorer: Again, dump: Path, stumbled: Stumbled) -> None:
    """Make what failed, as far as it can be made; raises what went wrong where it cannot."""
    lines = restorer.lines(dump, stumbled.entries)
    with restorer.address.session() as session:
        path = own_path(session)
        session.execute("SELECT set_config('search_path', %s, false)", (path,))
        if not all(kind_of(line) == "FK CONSTRAINT" for line in lines):
            try:
                restorer.again(dump, lines, path)
                return
            except Stumbled as second:
                if not second.entries:
                    raise
                stumbled, lines = second, restorer.lines(dump, second.entries)
        tables = [line for line in lines if kind_of(line) == "TABLE DATA"]
        if tables:
            _load(restorer, session, dump, tables, path, stumbled)
        for line in lines:
            if line not in tables:
                _make(restorer, session, dump, line, stumbled)


def kind_of(line: str) -> str:
    """What a line of the table of contents is, of those kinds that may fail because of rows; else nothing."""
    found = _KIND.match(line)
    return found["kind"] if found else ""


def name_of(line: str) -> str:
    """What it is, its schema and its name, without its number and its owner."""
    return " ".join(line.split("; ", 1)[1].split(" ")[2:-1])


def _load(
    restorer: Again, session: psycopg.Connection[Row], dump: Path, lines: list[str], path: str, stumbled: Stumbled
) -> None:
    tables = _tables(dump, lines)
    if not restorer.without_broken:
        raise RestoreFailed(
            f"rows of {', '.join(written(*table) for table in tables)} do not fit their table: {stumbled.what}",
            on=str(restorer.address),
            hint=f"nothing was replaced. {OPTION} loads them without the checks and generated values that fail",
        ) from stumbled
    left = lines

    def load() -> None:
        nonlocal left
        try:
            restorer.again(dump, left, path)
        except Stumbled as failed:
            left = restorer.lines(dump, failed.entries)  # the others are loaded, and must not come twice
            raise

    with in_our_words(restorer.address):
        restorer.told.warnings += load_all_the_same(session, tables, load)


def _tables(dump: Path, lines: Iterable[str]) -> list[Table]:
    """Schema and name of the tables of these lines, in which blanks do not say where a name ends."""
    numbers = {int(line.split(";", 1)[0]) for line in lines}
    entries = read_toc(dump)
    codec = codec_of(b"".join(entry.define for entry in entries if entry.what == b"ENCODING"))
    return [
        (entry.schema.decode(codec, "replace"), entry.name.decode(codec, "replace"))
        for entry in entries
        if entry.number in numbers
    ]


def _make(restorer: Again, session: psycopg.Connection[Row], dump: Path, line: str, stumbled: Stumbled) -> None:
    """One entry by itself: only its own statement says why it fails, in a way that no language changes."""
    import psycopg

    kind, told = kind_of(line), restorer.told
    if not kind:
        raise stumbled
    name = name_of(line)
    for statement in _statements(restorer.script(dump, line)):
        try:
            session.execute(sql(statement))
        except psycopg.Error as error:
            reason = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
            if kind == VIEW and not of_the_session(session, error):
                told.warnings.append(f"{name}: the view stays empty: {reason}")
            elif kind in BREAKABLE and _is_broken(error.sqlstate or ""):
                _leave_out(restorer, session, kind, name, statement, reason)
            elif kind in FOLLOWING and (told.broken or told.warnings):
                told.warnings.append(f"{name} is left out: {reason}")
            else:
                with in_our_words(restorer.address):
                    raise
            return


def _is_broken(state: str) -> bool:
    return state.startswith(_BROKEN) and state != _NO_RIGHT


def _statements(script: bytes) -> Iterator[str]:
    for statement in statements(as_utf8(script)):
        if not _SETTING.match(statement):
            yield statement.decode("utf-8", "surrogateescape")


def _leave_out(
    restorer: Again, session: psycopg.Connection[Row], kind: str, name: str, statement: str, reason: str
) -> None:
    import psycopg

    if not restorer.without_broken:
        restorer.told.broken.append(f"{name} ({reason})")
        return
    if kind in ("FK CONSTRAINT", "CHECK CONSTRAINT"):
        try:
            session.execute(sql(f"{statement} NOT VALID"))
            restorer.told.warnings.append(f"{name} does not hold ({reason}): made NOT VALID, for new rows only")
            return
        except psycopg.Error:  # a foreign key of a partitioned table knows no such thing
            pass
    restorer.told.warnings.append(f"{name} does not hold ({reason}): it is left out")
