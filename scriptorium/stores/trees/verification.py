"""Verifying a backup of trees: what comes back is compared with the record."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import entry_line
from scriptorium.members.comparison import ALTERED, MISSING, Comparison
from scriptorium.members.ledger import LIST
from scriptorium.model import FileEntry, Finding
from scriptorium.progress import Advance
from scriptorium.stores.trees.reading import Recorded

Opened = Callable[[], AbstractContextManager[Recorded]]


def whole_findings(recorded: Opened, missing: str, advance: Advance | None) -> tuple[Finding, ...]:
    """Read everything back and compare every hash. ``missing``: the damage where the contents are not there at all."""

    def compared(record: Recorded) -> tuple[Finding, ...]:
        with contextlib.closing(Comparison(record.manifest.files)) as comparison:
            damage: DamageFound | None = None
            last = ""
            try:
                with contextlib.closing(record.members(None, advance)) as members:
                    for member in members:
                        last = member.entry.path
                        if last == LIST:
                            for _ in comparison.listing(member.chunks()):
                                pass
                            continue
                        digest = hashlib.sha256()
                        for chunk in member.chunks():
                            digest.update(chunk)
                        sha256 = digest.hexdigest() if member.entry.kind == "file" else None
                        comparison.member(dataclasses.replace(member.entry, sha256=sha256))
            except DamageFound as error:
                damage = error
            except NotFound:
                damage = DamageFound(missing)
            first = (Finding(ALTERED, last, damage.what),) if damage is not None else ()
            return (*first, *comparison.findings(whole=damage is None))

    return _of_record(recorded, compared)


def listed_findings(recorded: Opened, listed: Callable[[Recorded], Iterator[FileEntry]]) -> tuple[Finding, ...]:
    """Without reading contents: whether everything is there, with the size that it had. ``listed``: the members as the
    tool lists them; what lies in the record alone as it is there."""

    def compared(record: Recorded) -> tuple[Finding, ...]:
        files = record.manifest.files
        with contextlib.closing(Comparison(files)) as comparison:
            if files.member is not None:
                for _ in comparison.listing(memoryview(entry_line(line.entry)) for line in record.lines()):
                    pass
            for entry in listed(record):
                comparison.member(entry)
            return comparison.findings()

    return _of_record(recorded, compared)


def _of_record(recorded: Opened, compared: Callable[[Recorded], tuple[Finding, ...]]) -> tuple[Finding, ...]:
    try:
        with recorded() as record:
            return compared(record)
    except NotFound:
        return (Finding(MISSING, "manifest.json"),)
    except DamageFound as error:
        return (Finding(ALTERED, "manifest.json", error.what),)
