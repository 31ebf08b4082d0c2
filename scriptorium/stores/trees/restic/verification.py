"""Verifying a backup in a repository: what comes back is compared with the record; a share is restic's own reading."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from datetime import UTC, datetime

from scriptorium.errors import DamageFound, NotFound
from scriptorium.members.comparison import ALTERED, MISSING, Comparison
from scriptorium.members.ledger import LIST
from scriptorium.model import Finding, Verification
from scriptorium.progress import Advance
from scriptorium.stores.base import Share
from scriptorium.stores.trees.restic.program import Restic
from scriptorium.stores.trees.restic.reading import recorded


def verified(program: Restic, key: str, location: str, share: Share | None, advance: Advance | None) -> Verification:
    """Read a copy back and compare every hash; of a share of the repository, restic compares its own.

    Damage in a share may be another backup's: then this one is read as a whole, and its own damage is what counts.
    """
    at, began = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    whole = share is None or not _share_is_sound(program, share)
    findings = _findings(program, key, location, advance) if whole else ()
    return Verification(at, not findings, tuple(map(str, findings)), time.monotonic() - began)


def _share_is_sound(program: Restic, share: Share) -> bool:
    return program.run("check", f"--read-data-subset={share}", within=None, found_damage=True).status == 0


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
                first = (Finding(ALTERED, last, damage.what),) if damage is not None else ()
                return (*first, *comparison.findings(whole=damage is None))
    except NotFound:
        return (Finding(MISSING, "manifest.json"),)
    except DamageFound as error:
        return (Finding(ALTERED, "manifest.json", error.what),)
