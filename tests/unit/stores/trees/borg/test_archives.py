"""The names of archives."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from scriptorium.errors import StoreUnavailable
from scriptorium.stores.trees.borg.archives import (
    ANNOTATIONS,
    CONTENTS,
    MANIFEST,
    backups,
    created_field,
    glob_of,
    in_order_of_removal,
    name_of,
    new_put,
    parse_archives,
    unreferenced,
)

CREATED = created_field(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def listed(*names: str, start: str = "2026-01-02T03:04:05.000000") -> bytes:
    archives = [{"name": name, "id": f"{number:064x}", "start": start} for number, name in enumerate(names)]
    return json.dumps({"archives": archives, "encryption": {"mode": "repokey-blake2"}}).encode()


def test_a_name_holds_what_a_listing_needs() -> None:
    name = name_of("my:library", "full {now}*", MANIFEST, "00ff", CREATED, 17)
    assert name == "scriptorium:my%3Alibrary:full %7Bnow%7D%2A:manifest:00ff:20260102T030405Z:17"
    (found,), encryption = parse_archives(listed(name))
    assert (found.key, found.role, found.put, found.created, found.bytes) == (
        "my:library/full {now}*",
        MANIFEST,
        "00ff",
        CREATED,
        17,
    )
    assert encryption == "repokey-blake2" and found.finished and found.time.tzinfo is UTC
    assert name.startswith(glob_of("my:library", "full {now}*")[:-1]) and glob_of() == "scriptorium:*"


def test_archives_of_others_are_none_of_ours() -> None:
    others = ["host-2026", "scriptorium", "scriptorium:a:b", "scriptorium:a:b:other:1:2", "scriptorium:::contents:1:2"]
    assert parse_archives(listed(*others))[0] == []
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        parse_archives(b"no JSON")


def test_the_newest_put_with_a_manifest_counts_and_a_checkpoint_is_unfinished() -> None:
    puts = [new_put() for _ in range(3)]
    assert puts == sorted(puts)
    first, second = (
        [name_of("lib", "label", role, put, CREATED) for role in (CONTENTS, MANIFEST, ANNOTATIONS)] for put in puts[:2]
    )
    checkpoint = name_of("lib", "other", CONTENTS, puts[2], CREATED) + ".checkpoint.1"
    archives, _ = parse_archives(listed(*reversed(second), *first, checkpoint))
    (found,) = backups(archives).values()
    assert [one.name for one in found.all] == [second[1], second[0], second[2]]
    left = unreferenced(archives)
    assert {one.name for one in left} == {*first, checkpoint}
    assert [one.role for one in in_order_of_removal(left)] == [MANIFEST, CONTENTS, CONTENTS, ANNOTATIONS]
