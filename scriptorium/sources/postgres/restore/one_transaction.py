"""What a restore in one transaction leaves out of a dump, and what it sends otherwise.

Whatever fails ends the transaction. So each statement that fails is replaced, in what pg_restore reads and not in the
dump, by one that does less, and all of it is loaded again. The replacement has the same length, because the dump says
how long it is.
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
    Again,
    Stumbled,
    kind_of,
    name_of,
)
from scriptorium.sources.postgres.toc import read_toc

_NOT_VALID = b" NOT VALID;"
_SEVERITY = "ERROR:"
_DETAIL = re.compile(r"DETAIL: +(.+?)(?: Command was:|$)")


@dataclass(frozen=True, slots=True)
class Change:
    """``statement`` of a dump and what is sent in its place, nothing but blanks or as long as it; ``told``: what is not
    as it was."""

    statement: bytes
    instead: bytes
    told: str


def leave_out(restorer: Again, dump: Path, stumbled: Stumbled, changes: dict[int, Change]) -> None:
    """Note, by their numbers, the entries that failed. Raises what went wrong where they may not be left out."""
    if DEPENDED_ON in stumbled.what:
        # What is there stands in the way, and no row of the dump.
        raise RestoreFailed(stumbled.what, on=stumbled.on, hint=f"nothing was changed. {stumbled.hint}") from stumbled
    lines = restorer.lines(dump, stumbled.entries)
    kinds = [kind_of(line) for line in lines]
    allowed = (*BREAKABLE, VIEW, *(FOLLOWING if changes else ()))
    if not restorer.without_broken or not lines or not all(kind in allowed for kind in kinds):
        raise _ended(stumbled, kinds, asked=restorer.without_broken) from stumbled
    statements = {entry.number: entry.define for entry in read_toc(dump)}
    for line, kind in zip(lines, kinds, strict=True):
        number = int(line.split(";", 1)[0])
        before, statement = changes.get(number), statements[number]
        if before is not None and not before.instead.strip():
            raise stumbled  # nothing of it was sent, and it failed all the same
        weaker = _not_valid(statement) if kind == "FK CONSTRAINT" and before is None else None
        reason = _reason(stumbled)
        changes[number] = Change(
            statement, weaker or b" " * len(statement), f"{name_of(line)} {_said(kind, reason, weaker is not None)}"
        )


def _reason(stumbled: Stumbled) -> str:
    """The server's own words, without what pg_restore puts around them."""
    what = stumbled.what.partition(_SEVERITY)[2].strip() or stumbled.what
    detail = _DETAIL.search(stumbled.hint)
    return f"{what} {detail[1]}" if detail else what


def _said(kind: str, reason: str, not_valid: bool) -> str:
    if kind == VIEW:
        return f"stays empty: {reason}"
    if kind in FOLLOWING:
        return f"is left out: {reason}"
    return f"does not hold ({reason}): {'made NOT VALID, for new rows only' if not_valid else 'it is left out'}"


def _not_valid(statement: bytes) -> bytes | None:
    """A foreign key that is not checked against the rows that are there; ``None`` where this needs more space than
    pg_dump's blanks leave."""
    short = b" ".join(statement.split(b"\n    ")).rstrip().removesuffix(b";").replace(b"TABLE ONLY ", b"TABLE ", 1)
    made = short + _NOT_VALID
    return made.ljust(len(statement)) if len(made) <= len(statement) and b"\n" not in short else None


def _ended(stumbled: Stumbled, kinds: Sequence[str], *, asked: bool) -> Stumbled | RestoreFailed:
    """The error of a restore in one transaction, which the first row that does not fit ends."""
    if not any(kind in (*BREAKABLE, "TABLE DATA") for kind in kinds):
        return stumbled
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
        f"rows of the backup do not fit: {stumbled.what}", on=stumbled.on, hint=f"nothing was changed. {way}"
    )


def replacements(changes: Mapping[int, Change]) -> Iterator[tuple[bytes, bytes]]:
    for change in changes.values():
        yield change.statement, change.instead


def told_of(changes: Mapping[int, Change]) -> Iterable[str]:
    return [change.told for change in changes.values()]
