"""Verifying a backup in a repository: what comes back is compared with the record.

Of a share, restic compares what it reads of the repository, and the snapshot's list is compared with the record.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from scriptorium.errors import NotFound
from scriptorium.model import FileEntry, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import Share
from scriptorium.stores.trees.reading import Recorded
from scriptorium.stores.trees.record import tree_of
from scriptorium.stores.trees.restic.lookup import as_printed, nodes
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.stores.trees.restic.reading import contents_of, recorded
from scriptorium.stores.trees.verification import listed_findings, whole_findings

_MISSING = "the snapshot of its contents is missing"
_STANDS = 300.0  # seconds after it was read
_shares: dict[tuple[str, Share], tuple[float, bool, set[str]]] = {}  # when, whether it is sound, for which backups


def verified(program: Restic, key: str, location: str, share: Share | None, advance: Advance | None) -> Verification:
    """Read a copy back and compare every hash; of a share of the repository, restic compares its own.

    Damage in a share may be another backup's: then this one is read as a whole, and its own damage is what counts.
    """
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    whole = share is None or not _share_is_sound(program, key, share)
    opened = functools.partial(recorded, program, key, location)
    listed = functools.partial(_listed, program, key)
    findings = whole_findings(opened, _MISSING, advance) if whole else listed_findings(opened, listed)
    return Verification(at, not findings, tuple(map(str, findings)), time.monotonic() - began)


def _share_is_sound(program: Restic, key: str, share: Share) -> bool:
    """A share is one of the whole repository: what was found for one backup stands for the others of the same run. A
    backup that asks again begins a new one."""
    which = (program.address, share)
    ended, sound, asked = _shares.get(which, (0.0, False, set[str]()))
    if which not in _shares or key in asked or time.monotonic() - ended > _STANDS:
        sound, asked = _read_share(program, share), set()
        ended = time.monotonic()
    _shares[which] = (ended, sound, asked | {key})
    return sound


def _read_share(program: Restic, share: Share) -> bool:
    return program.run("check", f"--read-data-subset={share}", within=None, found_damage=True).status == 0


def _listed(program: Restic, key: str, record: Recorded) -> Iterator[FileEntry]:
    """The members as the snapshot lists them; what lies in the record alone as it is there."""
    places = {
        line.entry.path: as_printed(tree_of(line, record.places).in_tool(line.entry.path))
        for line in record.lines()
        if line.entry.kind == "file"
    }
    try:
        known = nodes(program, contents_of(key, record.manifest), set(places.values())) if places else {}
    except NotFound:  # the snapshot of the contents is gone
        known = {}
    for line in record.lines():
        entry = line.entry
        if entry.kind != "file":
            yield entry
        elif (node := known.get(places[entry.path])) is not None:
            yield dataclasses.replace(entry, size=node[0])
