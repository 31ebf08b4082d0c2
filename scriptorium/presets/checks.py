"""The rules that a library of a kind must fulfil: names in the database, files in the backup, and how they match.

A preset has queries for its database (``STATEMENTS``) and judges the answers together with the files. It never opens
anything itself: the answers come from the snapshot of a backup, or from the restored database of a drill.
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
    """A file of the backup: its size in bytes and its SHA-256; for a link those of the file that it leads to."""

    size: int
    sha256: str | None


Answers = Mapping[str, Rows]
Files = Mapping[str, Held]
Places = Collection[str]  # the paths of the backup's parts of files, also of those without any file


def broken(name: str, cases: Iterable[str]) -> Check:
    """A check that is good if there is no case."""
    found = sorted(set(cases))
    return Check(name, not found, len(found), tuple(found[:SHOWN]))


def noted(name: str, cases: Iterable[str]) -> Check:
    """A check that only reports its cases: they are no fault."""
    found = sorted(set(cases))
    return Check(name, True, len(found), tuple(found[:SHOWN]))


class Rule(NamedTuple):
    """A query for the rows of a table that break a rule, each as one text."""

    verdict: str
    table: str
    query: str


@dataclass(frozen=True, slots=True)
class DatabaseRules:
    """The rules of an application for its living database. It is recognised by its ``tables`` in the schema ``public``.

    ``files``: a query for the files that its rows name; ``compare_files`` compares its answer with their folder.
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
