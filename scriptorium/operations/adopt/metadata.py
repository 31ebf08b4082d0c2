"""Name, time and description of a foreign archive, from its own metadata and from its application's index beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.manifest import readable
from scriptorium.operations.adopt.inventory import METADATA

_INDEXES = ("simple_backup_index.json", "backup_index.json")
_LARGEST_INDEX = 16 << 20
_LONGEST = 160  # characters of a name or a description that are kept
_ENDINGS = re.compile(r"(\.tar\.gz|\.tar\.zst|\.sql\.gz|\.tgz|\.tar|\.zip|\.dump|\.backup|\.sql|\.gz)\Z", re.IGNORECASE)

Metadata = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Foreign:
    """An archive that is to be adopted. ``kind``: the backup type that it states, ``""`` if it states none."""

    name: str
    description: str
    created_at: datetime
    kind: str
    warnings: tuple[str, ...]


def described(file: Path, sha256: str, metadata: bytes | None, now: datetime) -> Foreign:
    """Name, time and kind from the archive's own metadata, and from the index beside it if it lists the archive."""
    known, warnings = _metadata(metadata)
    row = _indexed(file, known)
    created, notes = time_of(known.get("created_at") or row.get("created_at"), file, now)
    identity = _text(known.get("backup_id")) or _text(row.get("id"))
    plain = name_of(file).removesuffix(f"_{identity[:8]}" if identity else "")
    kind = _text(known.get("backup_type")) or _text(row.get("backup_type"))
    reason = _text(known.get("reason"))
    words = [_text(row.get("description")), f"{kind}, {reason}" if kind and reason else kind]
    return Foreign(
        name=_text(row.get("name")) or plain,
        description=described_as(file, sha256, *words),
        created_at=created,
        kind=kind,
        warnings=(*warnings, *notes),
    )


def name_of(file: Path) -> str:
    """The name of a file without its endings."""
    return _text(_ENDINGS.sub("", file.name)) or "adopted"


def described_as(file: Path, sha256: str, *words: str) -> str:
    """The description of an adopted backup; its last part names the original."""
    return "; ".join([*(word for word in words if word), f"adopted from {readable(file.name)} (sha256 {sha256})"])


def time_of(stated: object, file: Path, now: datetime) -> tuple[datetime, tuple[str, ...]]:
    """When the backup was taken (UTC), from the ISO time ``stated``, else from the time of the file; and warnings.

    A time without a zone is read as this machine's local time.
    """
    try:
        if not isinstance(stated, str):
            raise ValueError("it states no time")
        time = datetime.fromisoformat(stated)
        created = time.astimezone(UTC).replace(microsecond=0)
        if created > now:
            raise ValueError(f"it states {stated}, which is in the future")
    except (ValueError, OverflowError) as error:
        created = min(datetime.fromtimestamp(file.stat().st_mtime, UTC), now).replace(microsecond=0)
        return created, (f"it is not known when it was taken ({error}): the time of the file is used",)
    if time.tzinfo is not None:
        return created, ()
    zone = time.astimezone()
    return created, (
        f"taken at {stated}, in an unknown time zone: this machine's zone is assumed, {zone:%Z} (UTC{zone:%z})",
    )


def _metadata(metadata: bytes | None) -> tuple[Metadata, tuple[str, ...]]:
    if metadata is None:
        return {}, (f"it has no {METADATA}: it was recognised by its content",)
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found, ()
    return {}, (f"its {METADATA} cannot be read: it was recognised by its content",)


def _indexed(file: Path, known: Metadata) -> Metadata:
    """The row of the archive in the index that its application kept beside it; empty if there is none."""
    for name in _INDEXES:
        try:
            index = file.with_name(name)
            rows = json.loads(index.read_bytes()) if index.stat().st_size <= _LARGEST_INDEX else {}
        except (OSError, ValueError, RecursionError):
            continue
        for row in rows.values() if isinstance(rows, dict) else ():
            if isinstance(row, dict) and _is_of(row, file, known):
                return row
    return {}


def _is_of(row: Metadata, file: Path, known: Metadata) -> bool:
    same_file = _text(row.get("file_path")).rpartition("/")[2] == file.name
    identity = known.get("backup_id")
    return same_file if identity is None else row.get("id") == identity


def _text(value: object) -> str:
    """A value as one line of printable text; empty if it is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in readable(value) if letter.isprintable()).strip()[:_LONGEST]
