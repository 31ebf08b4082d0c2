"""The snapshots of a repository that are ours, known by their tags.

A backup is two snapshots of one ``put``: ``role=contents`` holds the parts, ``role=manifest`` (made last; its presence
is the commit) the manifest and the record of the members. ``role=annotations``: what became known later. Tags and not
ids connect them, because ``restic copy`` keeps the tags.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from scriptorium.errors import StoreUnavailable
from scriptorium.manifest import Record
from scriptorium.model import Manifest

OURS = "scriptorium"
COPIED = "copied"  # a tag of contents that came from another store
CONTENTS, MANIFEST, ANNOTATIONS = "contents", "manifest", "annotations"
_NAMED = {  # what each of ours has among its tags
    CONTENTS: ("library", "label", "id", "put"),
    MANIFEST: ("library", "label", "id", "put"),
    ANNOTATIONS: ("library", "label"),
}
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot; ``tags`` by name."""

    id: str
    time: datetime
    host: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def role(self) -> str:
        return self.tags.get("role", "")

    @property
    def library(self) -> str:
        return self.tags.get("library", "")

    @property
    def label(self) -> str:
        return self.tags.get("label", "")

    @property
    def key(self) -> str:
        return f"{self.library}/{self.label}"

    @property
    def put(self) -> str:
        return self.tags.get("put", "")

    @property
    def created(self) -> str:
        return self.tags.get("created", "")

    def __str__(self) -> str:
        return f"{self.key} ({self.role}, snapshot {self.id[:8]})"


def created_tag(at: datetime) -> str:
    return f"{at.astimezone(UTC):{_STAMP}}"


def tag_words(tags: Mapping[str, str]) -> str:
    """For ``--tag``: all of these."""
    return ",".join([OURS, *(f"{name}={quote(value, safe=' -_.:+')}" for name, value in tags.items())])


def tags_of_key(key: str, role: str) -> dict[str, str]:
    library, _, label = key.partition("/")
    return {"role": role, "library": library, "label": label}


def tags_of(manifest: Manifest, label: str, role: str, put: str) -> dict[str, str]:
    return {
        "role": role,
        "id": manifest.id,
        "library": manifest.library,
        "type": manifest.type.value,
        "tier": manifest.tier.value,
        "label": label,
        "created": created_tag(manifest.created_at),
        "put": put,
    }


def parse_snapshots(data: bytes) -> list[Snapshot]:
    """Ours of what ``restic snapshots --json`` printed, oldest first. A user may have given our word as a tag, too."""
    try:
        found = json.loads(data or b"null") or []
    except ValueError:
        raise StoreUnavailable("restic printed a list of snapshots that cannot be read") from None
    return sorted(filter(_is_ours, map(_snapshot, found)), key=lambda one: (one.time, one.id))


def _is_ours(found: Snapshot) -> bool:
    named = _NAMED.get(found.role)
    return named is not None and all(found.tags.get(name) for name in named)


def _snapshot(raw: object) -> Snapshot:
    record = Record(raw, "snapshot")
    tags = record.texts("tags") if record.raw.get("tags") else ()
    named = {name: unquote(value) for name, equals, value in (tag.partition("=") for tag in tags) if equals}
    return Snapshot(record.text("id"), _time(record.text("time")), record.optional_text("hostname") or "", named)


def _time(text: str) -> datetime:
    """Go writes up to nine places, Python reads six."""
    whole, dot, rest = text.partition(".")
    if dot:
        digits = "".join(iter_digits(rest))
        text = f"{whole}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def iter_digits(text: str) -> Iterator[str]:
    for letter in text:
        if not letter.isdigit():
            return
        yield letter


@dataclass(frozen=True, slots=True)
class Found:
    """One backup: its manifest, its contents (``None``: they are missing), the newest annotations."""

    manifest: Snapshot
    contents: Snapshot | None
    annotations: Snapshot | None

    @property
    def all(self) -> tuple[Snapshot, ...]:
        return tuple(one for one in (self.manifest, self.contents, self.annotations) if one is not None)


def backups(snapshots: Sequence[Snapshot]) -> dict[str, Found]:
    """Every backup by its key. ``snapshots``: ours, oldest first; the newest put of a key is the one that counts."""
    manifests = {one.key: one for one in snapshots if one.role == MANIFEST}
    contents = {one.put: one for one in snapshots if one.role == CONTENTS}
    annotations = {one.key: one for one in snapshots if one.role == ANNOTATIONS}
    return {key: Found(one, contents.get(one.put), annotations.get(key)) for key, one in sorted(manifests.items())}


def unreferenced(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """What belongs to no backup: contents without a manifest, and what a newer one replaced."""
    used = {snapshot.id for found in backups(snapshots).values() for snapshot in found.all}
    return [one for one in snapshots if one.id not in used]


def parent_of(snapshots: Iterable[Snapshot], tags: Mapping[str, str], host: str) -> str:
    """The snapshot whose unchanged files need not be read again: the newest of this host, the same type first."""
    mine = [one for one in snapshots if one.role == CONTENTS and one.host == host and COPIED not in one.tags]
    same = [one for one in mine if one.library == tags["library"]]
    alike = [one for one in same if one.tags.get("type") == tags["type"]]
    return max((alike or same), key=lambda one: one.time).id if same else ""
