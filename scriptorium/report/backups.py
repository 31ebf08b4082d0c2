"""Backups as JSON and as rows; the results of ``list``, and of small changes to what is kept."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.model import PROVEN, Backup, Copy, LibraryFound, StoreFound
from scriptorium.report.report import Document, Report, Row, Table

if TYPE_CHECKING:
    from scriptorium.results import Listing

NOT_RECORDED = "no fingerprints"


def list_report(listing: Listing, now: datetime) -> Report:
    """The report on the backups that there are, and on the stores that could not be read."""
    backups = listing.backups
    spare = ["Recovery", "Drilled (UTC)", "Tier", "Stores", "Taken (UTC)", "Type"]
    if len({backup.library for backup in backups}) == 1:
        spare.insert(0, "Library")
    notes = []
    if any(backup.unrecorded for backup in backups):
        notes.append(
            f"{NOT_RECORDED}: a backup without fingerprints of its database can be restored, but no drill can prove it"
        )
    total = sum(copy.bytes for backup in backups for copy in backup.copies)
    notes.append(f"{len(backups)} backup{'s' if len(backups) != 1 else ''}, {wording.size(total)}")
    notes += [f"warning: the store {one.store} could not be read: {one.error}" for one in listing.problems]
    return Report(
        "list",
        "all",
        "Backups",
        document=list_document(listing),
        blocks=(Table([backup_row(backup, now) for backup in backups], right=("Size",), spare=spare),),
        notes=notes,
    )


def list_document(listing: Listing) -> Document:
    return {
        "backups": [backup_document(backup) for backup in listing.backups],
        "problems": [{"store": problem.store, "error": problem.error} for problem in listing.problems],
    }


def backup_document(backup: Backup) -> Document:
    return {
        "id": backup.id,
        "name": backup.name,
        "library": backup.library,
        "type": str(backup.type),
        "tier": str(backup.tier),
        "status": str(backup.status),
        "created_at": backup.created_at.isoformat(),
        "description": backup.description,
        "bytes": backup.bytes,
        "pinned": backup.pinned,
        "parts": list(backup.parts),
        "warnings": backup.warnings,
        "unrecorded": list(backup.unrecorded),
        "unsaved": backup.unsaved,
        "error": backup.error,
        "missing_copies": [{"store": one.store, "reason": one.reason} for one in backup.missing],
        "copies": [copy_document(copy) for copy in backup.copies],
    }


def copy_document(copy: Copy) -> Document:
    return {
        "store": copy.store,
        "key": copy.key,
        "bytes": copy.bytes,
        "status": str(copy.status),
        "verified_at": _time(copy.verified_at),
        "proven_at": _time(copy.proven_at),
        "drilled_at": _time(copy.drilled_at),
        "verdict": copy.verdict,
        "recovery_seconds": copy.recovery_seconds,
        "damage": list(copy.damage),
    }


def _time(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def backup_row(backup: Backup, now: datetime) -> Mapping[str, str]:
    drill = backup.last_drill
    return {
        "ID": backup.id,
        "Name": backup.name,
        "Library": backup.library,
        "Type": str(backup.type),
        "Tier": str(backup.tier),
        "Taken (UTC)": wording.utc(backup.created_at),
        "Age": wording.age(backup.created_at, now),
        "Size": wording.size(backup.bytes) if backup.copies else "",
        "Status": backup_status(backup) + (" pinned" if backup.pinned else ""),
        "Drilled (UTC)": _drilled(drill),
        "Recovery": wording.duration(drill.recovery_seconds) if drill and drill.recovery_seconds is not None else "",
        "Stores": ", ".join([copy.store for copy in backup.copies] + [f"not {one.store}" for one in backup.missing]),
    }


def backup_status(backup: Backup) -> str:
    """Its status, and whether its database has no fingerprints, so that no drill can prove it."""
    return f"{backup.status}, {NOT_RECORDED}" if backup.unrecorded and backup.status.good else str(backup.status)


def _drilled(drill: Copy | None) -> str:
    if drill is None or drill.drilled_at is None:
        return ""
    suffix = "" if drill.verdict == PROVEN else f" {drill.verdict}"
    return f"{wording.utc(drill.drilled_at)}{suffix}"


def pin_report(backup: Backup, pinned: bool) -> Report:
    """The report on a backup that was pinned or unpinned."""
    state = "is pinned: it is never pruned" if pinned else "is no longer pinned"
    document = {"id": backup.id, "pinned": pinned}
    return Report("pin", backup.library, f"Backup {backup.name}", document, verdict=f"{backup.id} {state}")


def places(backup: Backup) -> str:
    """The stores that hold a backup; a failed one is in none."""
    return ", ".join(copy.store for copy in backup.copies) or "the records"


def delete_report(backup: Backup) -> Report:
    """The report on a backup that was removed from every store."""
    return Report(
        "delete",
        backup.library,
        f"Backup {backup.name}",
        document={"id": backup.id, "deleted": True},
        verdict=f"deleted {backup.name} ({backup.id}) from {places(backup)}",
    )


def rebuilt_report(copies: int) -> Report:
    """The report on an index that was rebuilt from the manifests."""
    verdict = f"the index was rebuilt: {copies} cop{'y' if copies == 1 else 'ies'}"
    return Report("rebuild", "all", "Index of the backups", document={"copies": copies}, verdict=verdict)


def found_report(found: StoreFound, url: str, options: Sequence[str] = ()) -> Report:
    """The report on a store that was found by its address: its libraries, and the next command, with the
    ``options`` that were given for the store."""
    rows: list[Row] = [
        {
            "Library": one.name,
            "Backups": str(one.backups),
            "Newest (UTC)": wording.utc(one.newest),
            "Id": one.newest_id,
            "Proven": f"{one.proven}, last {wording.utc(one.last_proof)}" if one.last_proof else "none",
            "Encrypted for": ", ".join(one.recipients) or "nobody",
            "Parts": ", ".join(f"{source} ({kind})" for source, kind, _ in one.parts),
        }
        for one in found.libraries
    ]
    document = {
        "copies": found.copies,
        "store": found.kind,
        "libraries": [dataclasses.asdict(one) | _times(one) for one in found.libraries],
        "settings": str(found.settings_file) if found.settings_file else None,
    }
    return Report(
        "rebuild",
        "all",
        "What is in the store",
        document=document,
        blocks=(Table(rows, right=("Backups",), spare=("Encrypted for",)),),
        notes=[f"next: {_next_command(found, url, options)}"],
    )


def _times(one: LibraryFound) -> Document:
    return {
        "newest": one.newest.isoformat(),
        "last_proof": one.last_proof.isoformat() if one.last_proof else None,
        "parts": [{"source": source, "kind": kind, "path": path} for source, kind, path in one.parts],
    }


def _next_command(found: StoreFound, url: str, options: Sequence[str]) -> str:
    words = ["--config", str(found.settings_file)] if found.settings_file else ["--store", url, *options]
    if found.libraries[0].recipients and "--identity" not in options:
        words += [] if found.settings_file else ["--identity", "FILE"]
    library = ["--library", found.libraries[0].name] if len(found.libraries) > 1 else []
    if found.settings_file:  # an option of every command
        return shlex.join(["scriptorium", *words, "restore", "latest", *library, "--restore-path", "DIR"])
    return shlex.join(["scriptorium", "restore", "latest", *library, *words, "--restore-path", "DIR"])
