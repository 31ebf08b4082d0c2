"""Verifying by shares, where the store can read a share of a backup and where it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tree_store import TreeStore

from scriptorium import stores
from scriptorium.catalog import Catalog
from scriptorium.operations.backup import backup
from scriptorium.operations.verify import choose_copies, verify
from scriptorium.report.verify import checked_document, checked_row, verify_report
from scriptorium.requests import BackupRequest, VerifyRequest
from scriptorium.settings import Settings, load
from scriptorium.words import BackupType, Status

SHARES = ("1/3", "2/3", "3/3")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A library of six files, with a store of trees and one of archives."""
    monkeypatch.setitem(stores.KINDS, "tree", TreeStore)
    for number in range(6):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{number}.txt").write_text(f"{number}" * 100)
    config = tmp_path / "scriptorium.toml"
    config.write_text(
        'workspace = "work"\n[libraries.lib]\nsources = [{ name = "data", kind = "files", path = "data" }]\n'
        f'[stores.vault]\nkind = "tree"\nplace = "{tmp_path}"\n[stores.local]\nkind = "local"\npath = "backups"\n'
    )
    return load(config, {})


def taken(settings: Settings) -> Any:
    return backup(settings, BackupRequest(type=BackupType.FULL)).backup


def test_all_shares_together_read_everything_once(settings: Settings) -> None:
    ids = {taken(settings).id for _ in range(4)}
    chosen = [choose_copies(settings, VerifyRequest(share=share)) for share in SHARES]
    for share, some in zip(SHARES, chosen, strict=True):
        assert {(one.backup.id, str(one.share)) for one in some if one.copy.store == "vault"} == {
            (id, share) for id in ids
        }
    whole = [one for some in chosen for one in some if one.copy.store == "local"]
    assert sorted(one.backup.id for one in whole) == sorted(ids) and {one.share for one in whole} == {None}


def test_a_sound_share_claims_nothing_of_the_rest_and_a_damaged_one_is_kept(settings: Settings) -> None:
    made = taken(settings)
    store = settings.store("vault")
    (key,) = [copy.key for copy in made.copies if copy.store == "vault"]
    store.annotate(key, replace(store.annotations(key), verification=None))
    kept: Any = store
    at = next(number for number, one in enumerate(kept.kept[key].members) if one[0].entry.path.endswith("4.txt"))
    kept.kept[key].members[at] = kept.kept[key].members[at][0], b"x" * 100
    damaged = SHARES[at % 3]
    for share in sorted(SHARES, key=damaged.__eq__):  # the damaged one last
        result = verify(settings, VerifyRequest(share=share, store="vault"))
        (one,) = result.checked
        assert one.share == share and one.verification.sound == (share != damaged), (share, damaged)
        if share != damaged:
            assert store.annotations(key).verification is None
            assert checked_row(one)["Verdict"] == f"sound in share {share}"
            document = checked_document(one)
            assert (document["status"], document["share"]) == ("complete", share)
            assert verify_report(result, None).verdict.endswith(f" sound in share {share}")
    (copy,) = [copy for copy in Catalog(settings).find(made.id).copies if copy.store == "vault"]
    assert copy.status is Status.DAMAGED and copy.damage == ("altered member: data/4.txt",)
