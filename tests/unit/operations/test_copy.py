"""Backups copied between stores of every kind, without their sources."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import backup_setup
import copy_setup
import pytest
from age_keys import new_key
from copy_setup import Stores, aged, only, saved, saved_manifest
from restic_repository import damage_pack

from scriptorium.catalog import Catalog
from scriptorium.errors import (
    DamageFound,
    KeyMissing,
)
from scriptorium.members import write_members
from scriptorium.model import Annotations, Backup, Manifest, Proof
from scriptorium.operations.backup import backup
from scriptorium.operations.copy import copy
from scriptorium.operations.copy_plan import plan_copy
from scriptorium.operations.drill import drill
from scriptorium.operations.pin import pin_copies
from scriptorium.report.copy import copy_report
from scriptorium.requests import BackupRequest, CopyRequest, DrillRequest
from scriptorium.settings import Settings
from scriptorium.stores import BackupStore, ResticStore, RsyncStore
from scriptorium.words import Compression, Status

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests
key, stores, settings = copy_setup.key, copy_setup.stores, copy_setup.settings


def same(manifest: Manifest) -> Manifest:
    """What is the same in every copy: all but the archive, and the list where it lies apart."""
    files = dataclasses.replace(manifest.files, entries=(), member=None)
    return dataclasses.replace(manifest, archive=None, files=files)


def require_copy(settings: Settings, id: str, name: str, original: Manifest, back: Path) -> None:
    found = Catalog(settings).find(id)
    (there,) = [one for one in found.copies if one.store == name]
    assert there.status is Status.VERIFIED and there.verified_at and there.pinned
    store = settings.store(name)
    manifest = store.manifest(there.key)
    if name != "hidden":
        assert same(manifest) == same(original)
    assert (manifest.id, manifest.files.sha256, manifest.name) == (id, original.files.sha256, original.name)
    assert store.verify(there.key).sound
    with store.members(there.key) as members:
        write_members(members, lambda path: back / path, roots=[back], expected=original.files)
    assert (back / "data" / "covers" / "again").samefile(back / "data" / "covers" / "a.jpg")
    with store.members(there.key, lambda path: path == "data/notes.txt") as members:
        assert [one.contents() for one in members if one.entry.path == "data/notes.txt"] == [b"notes"]
    with store.members(there.key) as members:
        owners = {member.entry.path: (member.uid, member.gid, member.uname) for member in members}
    if os.geteuid() == 0:
        assert owners["data/covers/a.jpg"] == (12345, 23456, "")


ARCHIVES = ("local", "usb", "aged", "hidden", "bucket")
TABLE = {
    "local": (*ARCHIVES, "tree", "restic"),
    "aged": (*ARCHIVES, "tree"),
    "hidden": (*ARCHIVES, "tree"),
    "bucket": (*ARCHIVES, "tree"),
    "tree": ARCHIVES,
    "restic": ("hidden", "far"),
}


@pytest.mark.parametrize("source", TABLE)
def test_a_backup_is_copied_from_each_store_into_others(
    settings: Settings, stores: Stores, source: str, tmp_path: Path
) -> None:
    if source not in stores:
        pytest.skip("restic is not installed")
    compression = Compression.ZSTD if source == "bucket" else None
    taken = saved(settings, source, name="the one", compression=compression)
    pin_copies(settings, taken, pinned=True)
    original = saved_manifest(stores[source], taken)
    targets = [one for one in TABLE[source] if one != source and one in stores]
    for target in targets:
        pair = only(settings, source, target)
        result = copy(pair, CopyRequest(reference=taken.id, to=[target], store=source))
        (made,) = result.copied
        assert (made.source, made.copy.store, made.copy.pinned) == (source, target, True)
        require_copy(pair, taken.id, target, original, tmp_path / f"back-{target}")
        assert result.require_every_copy() is result
    again = copy(only(settings, source, *targets), CopyRequest(reference=taken.id, to=targets))
    assert not again.copied and len(again.present) == len(targets)
    assert not list((settings.workspace_folder / "staging").iterdir())


def test_archives_for_the_same_keys_stay_byte_by_byte_what_they_were(settings: Settings, stores: Stores) -> None:
    taken = saved(settings, "local")
    for name, unchanged in (("usb", True), ("bucket", True), ("aged", False)):
        (made,) = copy(settings_of := only(settings, "local", name), CopyRequest(reference=taken.id, to=[name])).copied
        assert made.unchanged == unchanged
        there = settings_of.store(name).manifest(made.copy.key).archive
        here = stores["local"].manifest(taken.copies[0].key).archive
        assert there is not None and here is not None and (there.sha256 == here.sha256) == unchanged
    local, usb = (Path(stores[name].location(taken.copies[0].key)) for name in ("local", "usb"))
    assert local.read_bytes() == usb.read_bytes() and not local.samefile(usb)


def test_new_recipients_get_a_copy_where_the_old_key_is_at_hand(settings: Settings, tmp_path: Path, key: str) -> None:
    taken = saved(settings, "aged")
    other = new_key(tmp_path / "other.txt")
    rotated = aged(tmp_path, "rotated", other, identity=tmp_path / "other.txt")
    keyless = aged(tmp_path, "aged", key)
    both = settings.model_copy(update={"stores": {"aged": settings.store("aged"), "rotated": rotated}})
    (made,) = copy(both, CopyRequest(reference=taken.id, to=["rotated"])).copied
    record = rotated.manifest(made.copy.key).archive
    assert record is not None and record.recipients == (other,) and rotated.verify(made.copy.key).sound
    rotated.remove(made.copy.key)
    without = settings.model_copy(update={"stores": {"aged": keyless, "rotated": rotated}})
    with pytest.raises(KeyMissing, match="is encrypted for"):
        plan_copy(without, CopyRequest(reference=taken.id, to=["rotated"]))
    same_keys = aged(tmp_path, "second", key)
    unopened = settings.model_copy(update={"stores": {"aged": keyless, "second": same_keys}})
    (made,) = copy(unopened, CopyRequest(reference=taken.id, to=["second"])).copied  # no key is needed for the bytes
    known = same_keys.annotations(made.copy.key).verification
    assert made.unchanged and known is not None and known.sound and known.unopened


def flip(store: BackupStore, taken: Backup) -> None:
    file = Path(store.location(taken.copies[0].key))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("target", ["bucket", "aged", "tree"])
def test_damage_is_not_copied_as_good(settings: Settings, stores: Stores, target: str) -> None:
    taken = saved(settings, "local", "usb")
    flip(stores["local"], taken)
    three = only(settings, "local", "usb", target)
    with pytest.raises(DamageFound) as damaged:
        copy(three, CopyRequest(reference=taken.id, to=[target], store="local"))
    assert damaged.value.exit_code == 3 and damaged.value.hint
    assert not list(stores[target].list()) and stores[target].usage()[0] == 0
    assert not list((settings.workspace_folder / "staging").iterdir())
    (made,) = copy(three, CopyRequest(reference=taken.id, to=[target])).copied  # the other copy is read
    assert made.source == "usb" and stores[target].verify(made.copy.key).sound


@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
def test_a_repository_takes_the_snapshots_of_another_one(settings: Settings, tmp_path: Path) -> None:
    """By ``restic copy``, with passwords of their own; a repository that is not there is made alike."""
    (tmp_path / "far.key").write_text("another password\n")
    near: Any = settings.store("restic")
    far = ResticStore(name="far", repository=str(tmp_path / "farther"), password_file=tmp_path / "far.key")
    key = saved(settings, "restic").copies[0].key
    manifest, label = near.manifest(key), key.partition("/")[2]
    assert far.takes(near, key, manifest, label) and not far.takes(near, key, manifest, f"{label}-2")
    other = far.model_copy(update={"options": {"s3.bucket-lookup": "path"}})
    assert other.takes(near, key, manifest, label) and not other.takes(
        near.model_copy(update={"options": {"s3.bucket-lookup": "dns"}}), key, manifest, label
    )
    stored = far.put(far.taken(near, key, manifest, label, tmp_path, advance=lambda _: None))
    assert (stored.key, stored.bytes) == (key, next(near.list()).bytes)
    copied = {one.role: one.tags for one in far.snapshots()}
    assert copied == {one.role: one.tags for one in near.snapshots() if one.role in ("contents", "manifest")}
    cut = [json.loads(one.program.run("cat", "config").stdout) for one in (far, near)]
    assert cut[0]["chunker_polynomial"] == cut[1]["chunker_polynomial"] and cut[0]["id"] != cut[1]["id"]


@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
def test_damage_in_a_repository_is_not_copied_as_good(settings: Settings, stores: Stores) -> None:
    taken = saved(settings, "restic")
    damage_pack(stores["restic"].folder or Path())
    with pytest.raises(DamageFound):
        copy(only(settings, "restic", "far"), CopyRequest(reference=taken.id, to=["far"]))
    assert not list(stores["far"].list())


def test_a_damaged_copy_is_replaced(settings: Settings, stores: Stores) -> None:
    taken = saved(settings, "local", "usb")
    flip(stores["usb"], taken)
    two = only(settings, "local", "usb")
    found = stores["usb"].verify(taken.copies[1].key)
    stores["usb"].annotate(
        taken.copies[1].key, dataclasses.replace(stores["usb"].annotations(taken.copies[1].key), verification=found)
    )
    (made,) = copy(two, CopyRequest(reference=taken.id, to=["usb"])).copied
    assert made.copy.key == taken.copies[1].key and stores["usb"].verify(made.copy.key).sound
    assert Catalog(two).find(taken.id).status is Status.VERIFIED


def test_a_copy_that_nobody_has_read_yet_is_read(settings: Settings, stores: Stores) -> None:
    taken = saved(settings, "local", "usb")
    stores["local"].annotate(taken.copies[0].key, Annotations(pinned=True))
    (made,) = copy(only(settings, "local", "usb"), CopyRequest(reference=taken.id, to=["local"])).copied
    assert made.finished and made.copy.status is Status.VERIFIED and made.copy.pinned
    stores["usb"].annotate(taken.copies[1].key, Annotations())
    flip(stores["usb"], taken)
    (made,) = copy(only(settings, "local", "usb"), CopyRequest(reference=taken.id, to=["usb"])).copied
    assert not made.finished and stores["usb"].verify(made.copy.key).sound


@pytest.mark.parametrize("proven", [True, False])
def test_a_copy_that_is_read_keeps_what_a_drill_found(settings: Settings, stores: Stores, proven: bool) -> None:
    taken = saved(settings, "local", "usb")
    proof = Proof(backup_setup.NOW, "local", proven, 1.0, 0.0, 0, 0, 0, 0, differences=() if proven else ("differs",))
    stores["local"].annotate(taken.copies[0].key, Annotations(proof=proof))
    two = only(settings, "local", "usb")
    (made,) = copy(two, CopyRequest(reference=taken.id, to=["local"])).copied
    there = stores["local"].annotations(taken.copies[0].key)
    assert there.proof == proof and there.verification is not None
    assert made.copy.status is (Status.PROVEN if proven else Status.DAMAGED)
    (note,) = copy_report(copy(two, CopyRequest(reference=taken.id, to=["local"]))).notes
    assert ("has a good copy in local" if proven else "a drill could not prove it") in note


def test_another_backup_of_the_same_second_keeps_its_name(settings: Settings, stores: Stores) -> None:
    at = backup_setup.NOW
    one = backup(only(settings, "local"), BackupRequest(to=["local"]), now=at).backup
    other = backup(only(settings, "usb"), BackupRequest(to=["usb"]), now=at).backup
    two = only(settings, "local", "usb")
    (made,) = copy(two, CopyRequest(reference=one.id, to=["usb"])).copied
    assert made.copy.label == f"{one.copies[0].label.partition('.')[0]}-2.tar.gz"
    assert {copy.store for copy in Catalog(two).find(one.id).copies} == {"local", "usb"}
    assert stores["usb"].verify(other.copies[0].key).sound


@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
@pytest.mark.slow
def test_a_database_is_proven_after_every_copy_of_a_copy(place: Any, stores: Stores, tmp_path: Path) -> None:
    """Out of an archive into a repository, an encrypted archive, folders of rsync, and back into an archive."""
    chain = ("local", "restic", "aged", "rsync", "usb")
    stores["rsync"] = RsyncStore(name="rsync", path=tmp_path / "rsync")
    both = place.settings.model_copy(
        update={"stores": {name: stores[name] for name in chain}, "workspace": tmp_path / "work"}
    )
    taken = backup(both, BackupRequest(to=["local"])).backup
    for source, target in itertools.pairwise(chain):
        copy(both, CopyRequest(reference=taken.id, to=[target], store=source))
        proof = drill(both, DrillRequest(reference=taken.id, store=target)).proof
        assert proof.proven and proof.rows and proof.tables, (target, proof)


def test_a_copy_is_encrypted_for_the_recipients_of_today(settings: Settings, tmp_path: Path, key: str) -> None:
    """In its own store, from itself: the old one goes when the new one is there."""
    taken = saved(settings, "aged")
    other = new_key(tmp_path / "other.txt")
    (tmp_path / "both.txt").write_text((tmp_path / "other.txt").read_text() + (tmp_path / "key.txt").read_text())
    rotated = aged(tmp_path, "aged", other, identity=tmp_path / "both.txt")
    now = settings.model_copy(update={"stores": {"aged": rotated}})
    (made,) = copy(now, CopyRequest(reference=taken.id, to=["aged"])).copied
    (found,) = rotated.list()
    record = rotated.manifest(found.key).archive
    assert found.key == made.copy.key and record is not None and record.recipients == (other,)
    assert rotated.verify(found.key).sound
    assert not copy(now, CopyRequest(reference=taken.id, to=["aged"])).copied
    lost = settings.model_copy(update={"stores": {"aged": aged(tmp_path, "aged", key)}})
    with pytest.raises(KeyMissing):
        copy(lost, CopyRequest(reference=taken.id, to=["aged"]))
    assert [one.key for one in rotated.list()] == [found.key]


def test_a_host_without_a_key_makes_encrypted_copies(settings: Settings, tmp_path: Path, key: str) -> None:
    taken = saved(settings, "local")
    keyless = aged(tmp_path, "keyless", key)
    two = settings.model_copy(update={"stores": {"local": settings.store("local"), "keyless": keyless}})
    (made,) = copy(two, CopyRequest(reference=taken.id, to=["keyless"])).copied
    verification = keyless.annotations(made.copy.key).verification
    assert verification is not None and verification.sound and verification.unopened
    assert aged(tmp_path, "keyless", key, identity=tmp_path / "key.txt").verify(made.copy.key).sound
