"""Verifying a backup in a repository: what comes back is compared with the record.

borg cannot read a chosen share of a repository. So a share is one of the files of each backup, chosen by their paths:
all shares together read every file.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

from scriptorium.members.selection import encoded
from scriptorium.model import FileEntry, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import Share
from scriptorium.stores.trees.borg.archives import Found
from scriptorium.stores.trees.borg.items import item_of
from scriptorium.stores.trees.borg.lookup import nodes
from scriptorium.stores.trees.borg.program import Borg
from scriptorium.stores.trees.borg.reading import recorded
from scriptorium.stores.trees.borg.saving import compare
from scriptorium.stores.trees.reading import Recorded
from scriptorium.stores.trees.record import Line, Place, tree_of
from scriptorium.stores.trees.verification import listed_findings, whole_findings

_MISSING = "the archive of its contents is missing"


def verified(
    program: Borg, found: Found | None, location: str, share: Share | None, advance: Advance | None
) -> Verification:
    """Read a copy back and compare every hash, or those of a share of its files; of the others, the list."""
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    opened = functools.partial(recorded, program, found, location)
    if share is None:
        findings = whole_findings(opened, _MISSING, advance)
    else:
        findings = listed_findings(opened, functools.partial(_listed, program, found))
    damage = tuple(map(str, findings))
    if share is not None and found is not None and found.contents is not None and not damage:
        with opened() as record:
            damage = tuple(map(str, compare(program, found.contents.name, _of_share(record, share))))
    return Verification(at, not damage, damage, time.monotonic() - began)


def _of_share(record: Recorded, share: Share) -> Iterator[tuple[Place, Line]]:
    for line in record.lines():
        if line.entry.kind == "file" and zlib.crc32(encoded(line.entry.path)) % share.of == share.number - 1:
            yield tree_of(line, record.places), line


def _listed(program: Borg, found: Found | None, record: Recorded) -> Iterator[FileEntry]:
    """The members as the archive lists them; what lies in the record alone as it is there."""
    items = (
        (line.entry.path, item_of(tree_of(line, record.places), line))
        for line in record.lines()
        if line.entry.kind == "file"
    )
    known = nodes(program, found.contents.name, items) if found is not None and found.contents is not None else {}
    for line in record.lines():
        entry = line.entry
        if entry.kind != "file":
            yield entry
        elif (node := known.get(entry.path)) is not None:
            yield dataclasses.replace(entry, size=node.size if node.size >= 0 else entry.size)
