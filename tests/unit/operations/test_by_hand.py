"""Deleting and pinning by hand: what is protected; the backup that was shown is the one that is removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scriptorium import workspace
from scriptorium.catalog import Catalog, begin_run, finish_run
from scriptorium.errors import NotFound, Protected
from scriptorium.model import Annotations, Verification
from scriptorium.operations.decided import decided
from scriptorium.operations.pin import pin, pin_copies
from scriptorium.operations.prune import delete, plan_delete, remove_by_hand
from scriptorium.requests import DeleteRequest, PinRequest
from scriptorium.words import Status

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
Shelf = Any  # the fixture's class; test modules cannot import from conftest


def ids(shelf: Shelf) -> set[str]:
    return {backup.id for backup in Catalog(shelf.settings).backups(records=False)}


def test_a_backup_is_deleted_by_hand_even_when_it_is_the_last_one(shelf: Shelf) -> None:
    backup = shelf.put()
    remove_by_hand(shelf.settings, backup)
    assert ids(shelf) == set() and list((shelf.folder / "local" / "lib").iterdir()) == []
    remove_by_hand(shelf.settings, backup)


def test_a_pinned_read_or_running_backup_is_not_deleted(shelf: Shelf) -> None:
    pinned, read, running = shelf.put(annotations=Annotations(pinned=True)), shelf.put(DAY), shelf.put(2 * DAY)
    with pytest.raises(Protected) as caught:
        remove_by_hand(
            shelf.settings,
            dataclasses.replace(
                pinned,
                copies=tuple(
                    dataclasses.replace(copy, pinned=False)
                    for copy in pinned.copies  # as it was listed before it was pinned
                ),
            ),
        )
    assert f"unpin {pinned.id}" in caught.value.hint
    with workspace.reading(shelf.settings, read.id), pytest.raises(Protected, match="reading"):
        remove_by_hand(shelf.settings, read)
    begin_run(shelf.settings, running)
    with pytest.raises(Protected, match="being taken"):
        remove_by_hand(shelf.settings, dataclasses.replace(running, status=Status.RUNNING))
    assert ids(shelf) == {pinned.id, read.id, running.id}
    pin_copies(shelf.settings, pinned, pinned=False)
    delete(shelf.settings, DeleteRequest(reference=pinned.id))
    assert pinned.id not in ids(shelf)


def test_the_record_of_a_failed_run_can_be_deleted(shelf: Shelf) -> None:
    failed = dataclasses.replace(shelf.put(), id="cccccccccccc", copies=(), status=Status.FAILED)
    finish_run(shelf.settings, failed, Status.FAILED, "x")
    assert delete(shelf.settings, DeleteRequest(reference="cccc")).id == failed.id
    with pytest.raises(NotFound):
        Catalog(shelf.settings).find("cccc")


def test_the_backup_that_was_shown_is_deleted_and_no_newer_one(shelf: Shelf) -> None:
    shown = shelf.put()
    plan = plan_delete(shelf.settings, DeleteRequest(reference="latest"))
    newer = shelf.put(DAY)  # another run takes a backup while the user reads the question
    request = DeleteRequest(reference=plan.backup.id)
    with decided(request, plan):
        assert plan_delete(shelf.settings, request) is plan, "it is not looked up again"
        assert delete(shelf.settings, request).id == shown.id
    assert ids(shelf) == {newer.id}


def test_a_request_pins_and_unpins(shelf: Shelf) -> None:
    backup = shelf.put()
    for pinned in (True, False):
        request = PinRequest(reference=backup.id, pinned=pinned)
        assert pin(shelf.settings, request).id == backup.id
        assert Catalog(shelf.settings).find(backup.id).pinned is pinned
    with pytest.raises(NotFound):
        pin(shelf.settings, PinRequest(reference="ffff"))


def test_pinning_holds_for_every_copy_and_keeps_what_else_is_known(new_shelf: Callable[..., Shelf]) -> None:
    shelf = new_shelf("local", "second")
    known = Verification(NOW, True)
    backup = shelf.put(DAY, "local", "second", annotations=Annotations(verification=known))
    for pinned in (True, True, False):
        pin_copies(shelf.settings, backup, pinned=pinned)
        for copy in backup.copies:
            assert shelf.settings.store(copy.store).annotations(copy.key) == Annotations(pinned, known)
    with pytest.raises(NotFound, match="no copy"):
        pin_copies(shelf.settings, dataclasses.replace(backup, copies=()), pinned=True)
