"""What a library of a kind must fulfil: names in the database, files in the backup, and how they fit.

A preset puts statements to its database (``STATEMENTS``) and judges the answers together with the files. It never opens
anything: the answers come from the snapshot when a backup is taken, and from what was restored when it is drilled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scriptorium.model import Check, Finding, Rows

SHOWN = 20
_SHOWN_FINDINGS = 5


class Held(NamedTuple):
    """A file of the backup: its size in bytes and its SHA-256. Of a link, those of the file that it leads to."""

    size: int
    sha256: str | None


Answers = Mapping[str, Rows]
Files = Mapping[str, Held]
Places = Collection[str]  # where the backup's sources of files lie; one that brought no file is among them


def broken(name: str, cases: Iterable[str]) -> Check:
    """A check that is good when there is no case of it."""
    found = sorted(set(cases))
    return Check(name, not found, len(found), tuple(found[:SHOWN]))


def noted(name: str, cases: Iterable[str]) -> Check:
    """Something worth knowing that is no fault."""
    found = sorted(set(cases))
    return Check(name, True, len(found), tuple(found[:SHOWN]))


class Rule(NamedTuple):
    """A query for the rows of a table that break a rule, each as one text."""

    verdict: str
    table: str
    query: str


@dataclass(frozen=True, slots=True)
class DatabaseRules:
    """What an application relies on in a living database. It is known by its ``tables``, all in the schema ``public``.

    ``files``: a query for the files that its rows name; ``compare_files`` judges its answer by their folder.
    """

    tables: frozenset[str]
    rules: tuple[Rule, ...]
    files: str
    compare_files: Callable[[Rows, Path], Iterator[Finding]]


def findings(verdict: str, table: str, cases: Sequence[str]) -> Iterator[Finding]:
    """One finding that names the first cases; none without cases."""
    if cases:
        more = f" and {len(cases) - _SHOWN_FINDINGS} more" if len(cases) > _SHOWN_FINDINGS else ""
        yield Finding(verdict, f"{len(cases)} in {table}", "; ".join(cases[:_SHOWN_FINDINGS]) + more)
