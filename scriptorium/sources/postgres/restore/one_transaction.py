"""What a restore in one transaction leaves out of a dump, and which statements it replaces.

Any error ends the transaction. So each statement that fails is replaced by a weaker one, and everything is loaded
again. It is replaced in what pg_restore reads, not in the dump. The replacement has the same length, because the dump
contains the length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import RestoreFailed
from scriptorium.sources.postgres.errors import DEPENDED_ON
from scriptorium.sources.postgres.restore.constraints import (
    BREAKABLE,
    FOLLOWING,
    OPTION,
    VIEW,
    EntriesFailed,
    RetryingRestorer,
    kind_of,
    name_of,
)
from scriptorium.sources.postgres.toc import UnknownLayout, read_toc

_NOT_VALID = b" NOT VALID;"
_SEVERITY = "ERROR:"
_DETAIL = re.compile(r"DETAIL: +(.+?)(?: Command was:|$)")


@dataclass(frozen=True, slots=True)
class Change:
    """A ``statement`` of a dump, and its replacement ``instead`` of the same length (only blanks: it is left out).
    ``note``: the difference, for people."""

    statement: bytes
    instead: bytes
    note: str


def leave_out(restorer: RetryingRestorer, dump: Path, failure: EntriesFailed, changes: dict[int, Change]) -> None:
    """Add a change for each entry that failed, by its number. Raises an error if they may not be left out."""
    if DEPENDED_ON in failure.what:
        # An existing object is the problem, not a row of the dump.
        raise RestoreFailed(failure.what, on=failure.on, hint=f"nothing was changed. {failure.hint}") from failure
    lines = restorer.lines(dump, failure.entries)
    kinds = [kind_of(line) for line in lines]
    allowed = (*BREAKABLE, VIEW, *(FOLLOWING if changes else ()))
    if not restorer.without_broken or not lines or not all(kind in allowed for kind in kinds):
        raise _ended(failure, kinds, asked=restorer.without_broken) from failure
    try:
        statements = {entry.number: entry.define for entry in read_toc(dump)}
    except UnknownLayout:
        raise _ended(failure, kinds, asked=True) from failure
    for line, kind in zip(lines, kinds, strict=True):
        number = int(line.split(";", 1)[0])
        before, statement = changes.get(number), statements[number]
        if before is not None and not before.instead.strip():
            raise failure  # it was left out, and failed nevertheless
        weaker = _not_valid(statement) if kind == "FK CONSTRAINT" and before is None else None
        reason = _reason(failure)
        changes[number] = Change(
            statement, weaker or b" " * len(statement), f"{name_of(line)} {_note(kind, reason, weaker is not None)}"
        )


def _reason(failure: EntriesFailed) -> str:
    """The server's own message, without the words that pg_restore adds."""
    what = failure.what.partition(_SEVERITY)[2].strip() or failure.what
    detail = _DETAIL.search(failure.hint)
    return f"{what} {detail[1]}" if detail else what


def _note(kind: str, reason: str, not_valid: bool) -> str:
    if kind == VIEW:
        return f"stays empty: {reason}"
    if kind in FOLLOWING:
        return f"is left out: {reason}"
    return f"does not hold ({reason}): {'made NOT VALID, for new rows only' if not_valid else 'it is left out'}"


def _not_valid(statement: bytes) -> bytes | None:
    """The statement as a foreign key that is not checked for existing rows; ``None`` if that is longer than the
    statement with pg_dump's blanks."""
    short = b" ".join(statement.split(b"\n    ")).rstrip().removesuffix(b";").replace(b"TABLE ONLY ", b"TABLE ", 1)
    made = short + _NOT_VALID
    return made.ljust(len(statement)) if len(made) <= len(statement) and b"\n" not in short else None


def _ended(failure: EntriesFailed, kinds: Sequence[str], *, asked: bool) -> EntriesFailed | RestoreFailed:
    """The error of a restore in one transaction, which ends at the first row that does not fit."""
    if not any(kind in (*BREAKABLE, "TABLE DATA") for kind in kinds):
        return failure
    beside = (
        "into a database beside the living one they are loaded all the same: scriptorium restore without --clean, with "
        f"{OPTION} (of a file: catalog adopt it first)"
    )
    if "TABLE DATA" in kinds:
        way = f"in one transaction a table has the checks and the generated values of the dump; {beside}"
    elif asked:
        way = beside
    else:
        way = f"{OPTION} loads all rows, and leaves out or makes NOT VALID what does not hold"
    return RestoreFailed(
        f"rows of the backup do not fit: {failure.what}", on=failure.on, hint=f"nothing was changed. {way}"
    )


def replacements(changes: Mapping[int, Change]) -> Iterator[tuple[bytes, bytes]]:
    for change in changes.values():
        yield change.statement, change.instead


def notes_of(changes: Mapping[int, Change]) -> Iterable[str]:
    return [change.note for change in changes.values()]
