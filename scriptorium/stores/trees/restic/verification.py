"""Verifying a backup in a repository: what comes back is compared with the record.

Of a share, restic compares what it reads of the repository, and the snapshot's list is compared with the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import entry_line
from scriptorium.members.comparison import ALTERED, MISSING, Comparison
from scriptorium.members.ledger import LIST
from scriptorium.model import FileEntry, Finding, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import Share
from scriptorium.stores.trees.record import tree_of
from scriptorium.stores.trees.restic.corrections import as_printed, nodes
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.stores.trees.restic.reading import Recorded, recorded

_STANDS = 300.0  # seconds after it was read
_shares: dict[tuple[str, Share], tuple[float, bool, set[str]]] = {}  # when, whether it is sound, for which backups


def verified(program: Restic, key: str, location: str, share: Share | None, advance: Advance | None) -> Verification:
    """Read a copy back and compare every hash; of a share of the repository, restic compares its own.

    Damage in a share may be another backup's: then this one is read as a whole, and its own damage is what counts.
    """
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    whole = share is None or not _share_is_sound(program, key, share)
    findings = _findings(program, key, location, advance) if whole else _listed_findings(program, key, location)
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


def _listed_findings(program: Restic, key: str, location: str) -> tuple[Finding, ...]:
    """Without reading contents: whether the snapshot still holds every file, with the size that it had."""
    try:
        with recorded(program, key, location) as record:
            files = record.manifest.files
            with contextlib.closing(Comparison(files)) as comparison:
                if files.member is not None:
                    for _ in comparison.listing(memoryview(entry_line(line.entry)) for line in record.lines()):
                        pass
                for entry in _listed(program, record):
                    comparison.member(entry)
                return comparison.findings()
    except NotFound:
        return (Finding(MISSING, "manifest.json"),)
    except DamageFound as error:
        return (Finding(ALTERED, "manifest.json", error.what),)


def _listed(program: Restic, record: Recorded) -> Iterator[FileEntry]:
    """The members as the snapshot lists them; what lies in the record alone as it is there."""
    places = {
        line.entry.path: as_printed(tree_of(line, record.places).in_tool(line.entry.path))
        for line in record.lines()
        if line.entry.kind == "file"
    }
    try:
        known = nodes(program, record.contents, set(places.values())) if places else {}
    except NotFound:  # the snapshot of the contents is gone
        known = {}
    for line in record.lines():
        entry = line.entry
        if entry.kind != "file":
            yield entry
        elif (node := known.get(places[entry.path])) is not None:
            yield dataclasses.replace(entry, size=node[0])


def _findings(program: Restic, key: str, location: str, advance: Advance | None) -> tuple[Finding, ...]:
    try:
        with recorded(program, key, location) as record:
            manifest = record.manifest
            with contextlib.closing(Comparison(manifest.files)) as comparison:
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
                    damage = DamageFound("the snapshot of its contents is missing", on=location)
                first = (Finding(ALTERED, last, damage.what),) if damage is not None else ()
                return (*first, *comparison.findings(whole=damage is None))
    except NotFound:
        return (Finding(MISSING, "manifest.json"),)
    except DamageFound as error:
        return (Finding(ALTERED, "manifest.json", error.what),)
