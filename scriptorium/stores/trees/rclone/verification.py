"""Verifying a backup in a remote: by SHA-256 that the remote computes of what it holds, and else read back.

Of a share, its files are read back, and of the others the names and sizes are compared.
"""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from scriptorium.errors import DamageFound
from scriptorium.members.selection import encoded
from scriptorium.model import FileEntry, Finding, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import Share
from scriptorium.stores.trees.arrival import read_back_lines
from scriptorium.stores.trees.rclone.arrival import Check
from scriptorium.stores.trees.rclone.files import Returned, Stored
from scriptorium.stores.trees.rclone.program import Rclone
from scriptorium.stores.trees.rclone.reading import recorded, stored_of
from scriptorium.stores.trees.reading import Recorded
from scriptorium.stores.trees.record import Line
from scriptorium.stores.trees.verification import listed_findings, whole_findings

_MISSING = "the folder of its contents is missing"


def verified(
    program: Rclone, key: str, location: str, check: Check, share: Share | None, advance: Advance | None
) -> Verification:
    """Compare every hash, or those of a share."""
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    opened = functools.partial(recorded, program, key, location)
    findings: tuple[Finding, ...] | tuple[str, ...]
    if share is None and not _computes(program, check):
        findings = whole_findings(opened, _MISSING, advance)
    else:
        findings = listed_findings(opened, functools.partial(_listed, program, key, share))
        if share is not None and not findings:
            findings = _read_share(program, key, location, share)
    return Verification(at, not findings, tuple(map(str, findings)), time.monotonic() - began)


def _computes(program: Rclone, check: Check) -> bool:
    """Whether the remote reads what it holds to tell the hash."""
    return check != "read" and program.abilities.computes and "sha256" in program.abilities.hashes


def _listed(program: Rclone, key: str, share: Share | None, record: Recorded) -> Iterator[FileEntry]:
    """The members as the remote lists them; without a share, with the hashes that it computes."""
    stored = stored_of(program, key)
    entries = stored.entries(hashes=share is None)
    for line in record.lines():
        entry = line.entry
        if entry.kind != "file":
            yield entry
        elif (found := entries.get(stored.name(entry.path))) is not None:
            sha256 = entry.sha256 if share is not None else found.hash
            yield replace(entry, size=found.size, sha256=sha256)


def _read_share(program: Rclone, key: str, location: str, share: Share) -> tuple[str, ...]:
    try:
        with recorded(program, key, location) as record:
            stored: Stored = stored_of(program, key)
            lines = (line for line in record.lines() if line.entry.kind == "file" and _is_in(line, share))
            return read_back_lines(lines, Returned(stored, None)).damage
    except DamageFound as error:
        return (error.what,)


def _is_in(line: Line, share: Share) -> bool:
    return zlib.crc32(encoded(line.entry.path)) % share.of == share.number % share.of
