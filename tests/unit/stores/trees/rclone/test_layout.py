"""What a listing of a remote says, and the small documents that lie in it."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from scriptorium.errors import DamageFound
from scriptorium.stores.trees.rclone.layout import (
    Claim,
    Seen,
    dump_names,
    listed_name,
    load_names,
    parse_claim,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_backup_has_a_manifest_and_is_damaged_without_its_contents() -> None:
    seen = Seen("lib", "full_20260102_030405", {"put.json": (9, AT)})
    assert not seen.is_backup and seen.changed == AT
    seen.files |= {"manifest.json": (9, AT), listed_name(70): (9, AT)}
    assert seen.is_backup and seen.bytes == 70 and not seen.complete
    stamp = seen.stamp
    seen.folders.add("contents")
    assert seen.complete and seen.stamp != stamp


def test_a_claim_comes_back_and_a_torn_one_is_nobodys() -> None:
    claim = Claim("0123456789ab", "host", AT)
    assert parse_claim(claim.written()) == claim
    assert parse_claim(claim.written()[:20]) is None


def test_names_that_are_no_text_come_back() -> None:
    renamed = {os.fsdecode(b"data/\xff odd\n"): "renamed/000001"}
    assert load_names(dump_names(renamed)) == renamed
    with pytest.raises(DamageFound):
        load_names(b'{"renamed": [{"path_base64": "?", "stored": "x"}]}')
