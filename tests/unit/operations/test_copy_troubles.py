"""Copies that cannot be made: nothing is left, nothing is lost, and a second try makes them."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import Any

import backup_setup
import copy_setup
import pytest
from copy_setup import Stores, only, saved
from tree_store import TreeStore

from scriptorium import workspace
from scriptorium.catalog import Catalog, begin_run
from scriptorium.errors import (
    LibraryBusy,
    NoSpace,
    NotFound,
    Protected,
    StoreUnavailable,
    UsageError,
)
from scriptorium.model import Verification
from scriptorium.operations import backup as operation
from scriptorium.operations.copy import copy, copy_each, copy_one
from scriptorium.operations.copy_plan import plan_copy
from scriptorium.operations.prune import remove_by_hand, sweep_stores
from scriptorium.requests import CopyRequest
from scriptorium.results import Copied, PlannedCopy
from scriptorium.settings import Settings
from scriptorium.stores.objects.local import LocalObjects

home, tmp_path = backup_setup.home, backup_setup.tmp_path  # fixtures of these tests
key, stores, settings = copy_setup.key, copy_setup.stores, copy_setup.settings


def test_what_cannot_be_copied_is_an_error(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = saved(settings, "local")
    two = only(settings, "local", "tree")
    with pytest.raises(UsageError):
        CopyRequest(missing=True, reference=taken.id)
    with pytest.raises(NotFound):
        copy(two, CopyRequest(reference=taken.id, to=["nowhere"]))
    with pytest.raises(NotFound):
        copy(two, CopyRequest(reference=taken.id, to=["tree"], store="tree"))
    assert copy(two, CopyRequest(reference=taken.id, to=["tree"], dry_run=True)).copied == ()
    TreeStore.broken.add(str(tmp_path))
    with pytest.raises(StoreUnavailable):
        copy(two, CopyRequest(reference=taken.id, to=["tree"]))
    TreeStore.broken.discard(str(tmp_path))
    with workspace.lock(two, "lib~copy~tree", "a test"), pytest.raises(LibraryBusy):
        copy(two, CopyRequest(reference=taken.id, to=["tree"]))
    monkeypatch.setattr("scriptorium.fs.free_space.free_bytes", lambda _: 1)
    with pytest.raises(NoSpace):
        copy(only(settings, "local", "usb"), CopyRequest(reference=taken.id, to=["usb"]))


def test_a_backup_that_is_being_copied_is_not_removed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = saved(settings, "local")
    two = only(settings, "local", "tree")
    tried: list[str] = []

    def during(point: str) -> None:
        if point == "copy.before-put":
            with pytest.raises(Protected):
                remove_by_hand(two, taken)
            with workspace.lock(two, "lib", "a backup"):  # the library is free meanwhile
                tried.append(point)
            assert workspace.receiver("tree") in workspace.being_read(two)
            assert sweep_stores(two) == ()
            begin_run(two, taken)  # as if its run had been cut short
            monkeypatch.setattr(TreeStore, "discard_unfinished", lambda *_: pytest.fail("the copy is on its way"))
            operation._clear_interrupted_runs(two, "lib")

    monkeypatch.setattr("scriptorium.operations.copy.reach", during)
    copy(two, CopyRequest(reference=taken.id, to=["tree"]))
    assert tried and len(Catalog(two).find(taken.id).copies) == 2


def test_a_second_try_finds_what_the_first_one_stored(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is retried with the same plan: a copy that could only not be read back then is not made again."""
    taken = saved(settings, "local")
    two = only(settings, "local", "tree")
    (planned,) = plan_copy(two, CopyRequest(reference=taken.id, to=["tree"])).copies

    def silent(*_: object, **__: object) -> None:
        raise StoreUnavailable("the store does not answer", on="tree")

    with monkeypatch.context() as patched:
        patched.setattr(TreeStore, "verify", silent)
        with pytest.raises(StoreUnavailable):
            copy_one(two, planned)
    made = copy_one(two, planned)
    assert made.finished and len(Catalog(two).find(taken.id).copies) == 2
    assert len(list(two.store("tree").list())) == 1


def test_a_damaged_copy_that_somebody_else_has_replaced_is_not_removed(settings: Settings, stores: Stores) -> None:
    taken = saved(settings, "local", "usb")
    two, key = only(settings, "local", "usb"), taken.copies[1].key
    damaged = Verification(backup_setup.NOW, False, ("a damaged block",))
    stores["usb"].annotate(key, dataclasses.replace(stores["usb"].annotations(key), verification=damaged))
    (planned,) = plan_copy(two, CopyRequest(reference=taken.id, to=["usb"])).copies
    assert not copy_one(two, planned).finished
    assert copy_one(two, planned).finished, "as planned before: the good copy is read, and stays"


def test_a_store_that_does_not_answer_is_not_tried_for_every_backup(settings: Settings, stores: Stores) -> None:
    two = only(settings, "local", "usb")
    backups = [saved(two, "local", type="config") for _ in range(4)]
    tried: list[str] = []

    def make(planned: PlannedCopy) -> Copied:
        tried.append(planned.backup.id)
        raise StoreUnavailable("the store does not answer", on=planned.to)

    result = copy_each(plan_copy(two, CopyRequest(missing=True)), make)
    assert len(tried) == 2 and len(result.failed) == len(backups)
    with pytest.raises(StoreUnavailable, match="4 of 4 could not be copied"):
        result.require_every_copy()


def test_a_copy_on_a_bad_disk_is_left_for_another(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = saved(settings, "local", "usb")
    three = only(settings, "local", "usb", "tree")
    opened = LocalObjects.open

    def failing(store: LocalObjects, key: str) -> Any:
        if store.name == "local":
            raise OSError(errno.EIO, "Input/output error")
        return opened(store, key)

    monkeypatch.setattr(LocalObjects, "open", failing)
    (made,) = copy(three, CopyRequest(reference=taken.id, to=["tree"])).copied
    assert made.source == "usb"
    with pytest.raises(StoreUnavailable, match="the disk reports an error"):
        copy(only(settings, "local", "aged"), CopyRequest(reference=taken.id, to=["aged"], store="local"))


def test_a_full_disk_leaves_nothing(settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = saved(settings, "local")

    def full(point: str) -> None:
        if point in ("copy.packed", "upload.before-manifest"):
            raise OSError(errno.ENOSPC, "No space left on device")

    for target in ("aged", "usb"):
        with monkeypatch.context() as patched:
            patched.setattr("scriptorium.operations.copy.reach", full)
            patched.setattr("scriptorium.stores.objects.layout.reach", full)
            with pytest.raises((NoSpace, OSError)):
                copy(only(settings, "local", target), CopyRequest(reference=taken.id, to=[target]))
        assert not list(stores[target].list()) and stores[target].usage()[0] == 0
        assert copy(only(settings, "local", target), CopyRequest(reference=taken.id, to=[target])).copied


def test_a_long_list_of_members_goes_along(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scriptorium.members.ledger.INLINE", 3)
    monkeypatch.setattr("scriptorium.stores.passing.INLINE", 3)
    taken = saved(settings, "local")
    for source, target in (("local", "hidden"), ("hidden", "tree"), ("tree", "usb")):
        request = CopyRequest(reference=taken.id, to=[target], store=source)
        (made,) = copy(only(settings, source, target), request).copied
        manifest = settings.store(target).manifest(made.copy.key)
        assert manifest.files.entries is None and manifest.files.member
        assert settings.store(target).verify(made.copy.key).sound
