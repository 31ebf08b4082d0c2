"""The archives of a repository that are ours, known by their names.

A backup is two archives of one ``put``: ``contents`` has the parts, ``manifest`` (made last; its presence is the
commit) the manifest and the record of the members. ``annotations``: what became known later. borg has no tags: what a
listing needs is in the name, ``scriptorium:LIBRARY:LABEL:ROLE:PUT:CREATED[:BYTES]``; the comment is for people.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from scriptorium.errors import StoreUnavailable
from scriptorium.manifest import Record
from scriptorium.model import Manifest

OURS = "scriptorium"
CONTENTS, MANIFEST, ANNOTATIONS = "contents", "manifest", "annotations"
_STAMP = "%Y%m%dT%H%M%SZ"
_SAFE = " -_.+"  # no braces: borg replaces placeholders; no colon: it parts the fields
_CHECKPOINT = re.compile(r"\.checkpoint(?:\.\d+)?$")
_FIELDS = 6


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive. ``put`` grows with time. ``finished``: it is no checkpoint, which a run that ended early left."""

    name: str
    id: str
    time: datetime
    library: str
    label: str
    role: str
    put: str
    created: str
    bytes: int = 0
    finished: bool = True

    @property
    def key(self) -> str:
        return f"{self.library}/{self.label}"

    def __str__(self) -> str:
        return f"{self.key} ({self.role}, archive {self.name})"


def new_put() -> str:
    """What connects the archives of one put; a later one sorts behind."""
    return f"{time.time_ns():016x}{secrets.token_hex(2)}"


def created_field(at: datetime) -> str:
    return f"{at.astimezone(UTC):{_STAMP}}"


def name_of(library: str, label: str, role: str, put: str, created: str, size: int | None = None) -> str:
    fields = [OURS, quote(library, safe=_SAFE), quote(label, safe=_SAFE), role, put, created]
    return ":".join([*fields, *([str(size)] if size is not None else [])])


def name_for(manifest: Manifest, label: str, role: str, put: str, size: int | None = None) -> str:
    return name_of(manifest.library, label, role, put, created_field(manifest.created_at), size)


def comment_of(manifest: Manifest) -> str:
    """For people who list the archive; without braces, which borg would replace."""
    return f"id={manifest.id} type={manifest.type.value} tier={manifest.tier.value}"


def glob_of(library: str = "", label: str = "") -> str:
    """The names of ours, for ``--glob-archives``."""
    parts = [OURS, *(quote(one, safe=_SAFE) for one in (library, label) if one)]
    return f"{':'.join(parts)}:*"


def parse_archives(data: bytes) -> tuple[list[Archive], str]:
    """Ours of what ``borg list --json`` printed, oldest first, and how the repository is encrypted."""
    try:
        record = Record(json.loads(data), "list of archives")
    except ValueError:
        raise StoreUnavailable("borg printed a list of archives that cannot be read") from None
    encryption = record.optional_record("encryption")
    found = (_archive(Record(one, "archive")) for one in record.listed("archives"))
    ours = sorted((one for one in found if one is not None), key=lambda one: (one.time, one.put))
    return ours, encryption.text("mode") if encryption is not None else ""


def _archive(record: Record) -> Archive | None:
    name = record.text("name")
    checkpoint = _CHECKPOINT.search(name)
    fields = (name[: checkpoint.start()] if checkpoint else name).split(":")
    if fields[0] != OURS or not _FIELDS <= len(fields) <= _FIELDS + 1:
        return None
    library, label, role, put, created = (unquote(one) for one in fields[1:_FIELDS])
    if role not in (CONTENTS, MANIFEST, ANNOTATIONS) or not (library and label and put):
        return None
    size = fields[-1] if len(fields) > _FIELDS else "0"
    at = datetime.fromisoformat(record.text("start")).replace(tzinfo=UTC)
    number = int(size) if size.isdecimal() else 0
    return Archive(name, record.text("id"), at, library, label, role, put, created, number, checkpoint is None)


@dataclass(frozen=True, slots=True)
class Found:
    """One backup: its manifest, its contents (``None``: they are missing), the newest annotations."""

    manifest: Archive
    contents: Archive | None
    annotations: Archive | None

    @property
    def all(self) -> tuple[Archive, ...]:
        return tuple(one for one in (self.manifest, self.contents, self.annotations) if one is not None)


def backups(archives: Sequence[Archive]) -> Mapping[str, Found]:
    """Every backup by its key. ``archives``: ours, oldest first; the newest put of a key is the one that counts."""
    whole = [one for one in archives if one.finished]
    manifests = {one.key: one for one in whole if one.role == MANIFEST}
    contents = {one.put: one for one in whole if one.role == CONTENTS}
    annotations = {one.key: one for one in whole if one.role == ANNOTATIONS}
    return {key: Found(one, contents.get(one.put), annotations.get(key)) for key, one in sorted(manifests.items())}


def unreferenced(archives: Sequence[Archive]) -> list[Archive]:
    """What belongs to no backup: contents without a manifest, and what a newer one replaced."""
    used = {archive.name for found in backups(archives).values() for archive in found.all}
    return [one for one in archives if one.name not in used]


def in_order_of_removal(archives: Iterable[Archive]) -> list[Archive]:
    """The manifests first: a removal that is cut short leaves no backup without its contents."""
    return sorted(archives, key=lambda one: (one.role != MANIFEST, one.role != CONTENTS))
