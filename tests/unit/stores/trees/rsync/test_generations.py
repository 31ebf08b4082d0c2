"""Which folders are ours, which earlier backup is linked to, and what all of them take."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from prepared_backup import TAKEN, draft_of

from scriptorium.stores.trees.rsync.generations import (
    PARTIAL,
    REMOVED,
    Card,
    Seen,
    bases,
    hidden_name,
    read_card,
    space_taken,
    stamp_of,
)
from scriptorium.words import BackupType

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def backup(name: str, *, type: str = "full", created: str = "2026-01-01", size: int = 100, new: int = 10) -> Seen:
    return Seen("lib", name, NOW, Card(name, type, created, size, new).written(), "stamp", contents=True)


def test_hidden_names() -> None:
    for ending in (PARTIAL, REMOVED):
        name = hidden_name("full_1", ending)
        seen = Seen("lib", name, NOW)
        assert seen.is_leftover and seen.label == "full_1" and seen.is_partial == (ending == PARTIAL)
    for name in ("full_1", ".full_1.partial", ".snapshots", "full_1.12345678.partial"):
        assert not Seen("lib", name, NOW).is_leftover and Seen("lib", name, NOW).label == name
    assert stamp_of(TAKEN) == "_20260102_030405"


def test_a_card_that_cannot_be_read() -> None:
    assert read_card(backup("a")) == Card("a", "full", "2026-01-01", 100, 10)
    for card in (b"", b"{}", b'{"id": 3}', None):
        assert read_card(replace(backup("a"), card=card)) is None
    assert bases([replace(backup("a"), card=b"{}")], draft_of(TAKEN)) == []


def test_the_newest_of_the_same_type_is_linked_to() -> None:
    seen = [
        backup("old", created="2026-01-01"),
        backup("new", created="2026-01-02"),
        backup("other", type="data_only", created="2026-01-03"),
        replace(backup("empty", created="2026-01-04"), contents=False),
        Seen("lib", "foreign", NOW),
    ]
    full = draft_of(TAKEN)
    assert [one.name for one in bases(seen, full)] == ["new", "old", "other"]
    assert next(one.name for one in bases(seen, replace(full, type=BackupType.DATABASE))) == "other"


def test_space() -> None:
    assert space_taken([]) == 0
    chain = [backup("a", created="1", size=100, new=100), backup("b", created="2"), backup("c", created="3", new=1)]
    assert space_taken(chain) == 111
    assert space_taken(chain[1:]) == 101  # the oldest holds what it shared with the one that is gone
    assert space_taken([*chain, backup("d", type="data_only", size=7), Seen("lib", "foreign", NOW)]) == 118
