"""Verifying a generation: every hash of its contents, or of a share of them, is compared with the record.

The hashes are made where the contents lie. Files outside the share must be there, with the size that they had.
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
from scriptorium.stores.trees.reading import Recorded
from scriptorium.stores.trees.record import Line
from scriptorium.stores.trees.rsync.generations import CONTENTS
from scriptorium.stores.trees.rsync.reading import recorded
from scriptorium.stores.trees.rsync.site import Site
from scriptorium.stores.trees.verification import listed_findings


def verified(site: Site, key: str, location: str, share: Share | None, advance: Advance | None) -> Verification:
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    listed = functools.partial(_listed, site, f"{key}/{CONTENTS}", share, advance)
    findings = listed_findings(functools.partial(recorded, site, key, location), listed)
    return Verification(at, not findings, tuple(map(str, findings)), time.monotonic() - began)


def _listed(
    site: Site, folder: str, share: Share | None, advance: Advance | None, record: Recorded
) -> Iterator[FileEntry]:
    """The members as they lie there; what is in the record alone as it is there."""
    read: dict[str, int] = {}
    others: dict[str, Line] = {}
    for line in record.lines():
        if line.entry.kind != "file":
            continue
        if share is None or zlib.crc32(encoded(line.entry.path)) % share.of == share.number % share.of:
            read[line.entry.path] = line.entry.size
        else:
            others[line.entry.path] = line
    hashes = dict(site.hashes(folder, read, advance))
    nodes = site.nodes(folder, others) if others else {}
    for line in record.lines():
        entry = line.entry
        if entry.kind != "file":
            yield entry
        elif entry.path in hashes:
            yield dataclasses.replace(entry, sha256=hashes[entry.path])
        elif entry.path in nodes:
            yield dataclasses.replace(entry, size=nodes[entry.path].size)
