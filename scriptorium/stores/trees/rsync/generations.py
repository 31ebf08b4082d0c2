"""How backups lie in the folder of a store: ``<library>/<label>/``, one generation each.

Beside ``contents/`` lie ``manifest.json``, the record of the members, ``trees.json``, ``SHA256SUMS``, a card that a
listing reads, and later the annotations. A generation is made under a hidden name and renamed when it is whole. What is
removed is renamed to a hidden name first.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from scriptorium.errors import DamageFound
from scriptorium.manifest import decoded, encoded
from scriptorium.model import Manifest

CARD, MANIFEST, ANNOTATIONS, CONTENTS = "backup.json", "manifest.json", "annotations.json", "contents"
PARTIAL, REMOVED = "partial", "removed"
UNFINISHED = "unfinished"  # in place of a label: what a dead run left, and the next backup links to
_HIDDEN = re.compile(rf"\.(.+)\.[0-9a-f]{{8}}\.({PARTIAL}|{REMOVED})", re.DOTALL)
_STAMP = "_%Y%m%d_%H%M%S"


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder of a library's folder, as a listing shows it. ``card``: what it holds, ``None`` where there is none."""

    library: str
    name: str
    changed: datetime
    card: bytes | None = None
    stamp: str = ""
    contents: bool = False

    @property
    def path(self) -> str:
        return f"{self.library}/{self.name}"

    @property
    def is_backup(self) -> bool:
        return self.card is not None and not self.name.startswith(".")

    @property
    def label(self) -> str:
        """Of a backup, or of what was to become one or was one."""
        hidden = _HIDDEN.fullmatch(self.name)
        return hidden[1] if hidden else self.name

    @property
    def is_leftover(self) -> bool:
        return _HIDDEN.fullmatch(self.name) is not None

    @property
    def is_partial(self) -> bool:
        return self.is_leftover and self.name.endswith(PARTIAL)


@dataclass(frozen=True, slots=True)
class Card:
    """What a listing tells of a backup. ``size``: of all contents; ``new``: of what was written for it, and not
    linked."""

    id: str
    type: str
    created: str
    size: int
    new: int

    def written(self) -> bytes:
        fields = {"id": self.id, "type": self.type, "created": self.created, "bytes": self.size, "new": self.new}
        return encoded(fields, indent=2) + b"\n"


def card_of(manifest: Manifest, size: int, new: int) -> Card:
    return Card(manifest.id, manifest.type.value, manifest.created_at.astimezone(UTC).isoformat(), size, new)


def read_card(seen: Seen) -> Card | None:
    """``None`` where it cannot be read."""
    try:
        record = decoded(seen.card or b"", "card of a backup")
        words = record.text("id"), record.text("type"), record.text("created")
        return Card(*words, record.number("bytes"), record.number("new"))
    except DamageFound:
        return None


def hidden_name(label: str, ending: str) -> str:
    return f".{label}.{secrets.token_hex(4)}.{ending}"


def stamp_of(created_at: datetime) -> str:
    """What the labels of a run's backups contain."""
    return f"{created_at.astimezone(UTC):{_STAMP}}"


def bases(seen: Iterable[Seen], manifest: Manifest) -> Sequence[Seen]:
    """The backups whose unchanged files may be linked to, the best first: the same type, then the newest."""
    known = [(card, one) for one in seen if one.is_backup and one.contents and (card := read_card(one)) is not None]
    known.sort(key=lambda pair: (pair[0].type == manifest.type.value, pair[0].created), reverse=True)
    return [one for _, one in known]


def space_taken(seen: Iterable[Seen]) -> int:
    """About the bytes that all backups take: of each library and type the oldest as a whole, of the others what was
    written for them. What several share is counted once."""
    chains: dict[tuple[str, str], list[Card]] = {}
    for one in seen:
        if one.is_backup and (card := read_card(one)) is not None:
            chains.setdefault((one.library, card.type), []).append(card)
    ordered = (sorted(cards, key=lambda card: card.created) for cards in chains.values())
    return sum(oldest.size + sum(card.new for card in later) for oldest, *later in ordered)
