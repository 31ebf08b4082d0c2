"""What a library of a kind must fulfil: names in the database, files in the backup, and how they fit.

A preset puts statements to its database (``STATEMENTS``) and judges the answers together with the files. It never opens
anything: the answers come from the snapshot when a backup is taken, and from what was restored when it is drilled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from scriptorium.model import Check, Rows

SHOWN = 20


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
