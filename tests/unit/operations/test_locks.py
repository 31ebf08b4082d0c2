"""Backups that stores lock are kept; cleanup reports the end of the lock, and does not fail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scriptorium.catalog import Catalog
from scriptorium.errors import Protected
from scriptorium.operations.locks import locks_of
from scriptorium.operations.prune import carry_out, delete
from scriptorium.operations.prune_plan import plan_cleanup
from scriptorium.operations.verify import choose_copies
from scriptorium.report.show import copy_rows
from scriptorium.requests import DeleteRequest, VerifyRequest
from scriptorium.retention import Policy
from scriptorium.stores import LocalStore, Lock

DAY = timedelta(days=1)
LAST = Policy(last=1)
UNTIL = datetime(2099, 12, 31, 23, 0, tzinfo=UTC)
Shelf = Any


class LockingStore(LocalStore):
    """A folder that keeps what it has as a bucket with Object Lock does. ``until``: by the age of the answer."""

    until: datetime = UNTIL

    def locked(self, key: str) -> Lock | None:
        return Lock("compliance", self.until)

    def remove(self, key: str) -> None:
        if self.until > datetime.now(UTC):
            raise Protected(f"the store locks this {self.locked(key)}", on=key)
        super().remove(key)


@pytest.fixture
def shelf(new_shelf: Callable[..., Shelf]) -> Shelf:
    return new_shelf("local", "vault")


def lock(shelf: Shelf, until: datetime = UNTIL) -> None:
    vault = shelf.settings.store("vault")
    locking = LockingStore(name="vault", path=vault.path, until=until)
    shelf.settings = shelf.settings.model_copy(update={"stores": {**shelf.settings.stores, "vault": locking}})


def ids(shelf: Shelf, store: str | None = None) -> set[str]:
    return {backup.id for backup in Catalog(shelf.settings).backups(store=store, records=False)}


def test_a_backup_whose_every_copy_is_locked_is_kept_and_the_plan_names_the_end_of_the_lock(shelf: Shelf) -> None:
    old = shelf.put(timedelta(0), "vault")
    shelf.put(DAY, "vault")
    lock(shelf)
    decisions = plan_cleanup(shelf.settings, "lib", LAST)
    found = {one.candidate.id: one for one in decisions}[old.id]
    assert found.keep and "vault locks it until 2099-12-31 23:00:00 UTC (compliance)" in found.reasons
    assert carry_out(shelf.settings, "lib", decisions) == () and old.id in ids(shelf)


def test_of_a_backup_with_one_locked_copy_the_other_goes_and_the_rest_when_its_time_has_come(shelf: Shelf) -> None:
    old = shelf.put(timedelta(0), "local", "vault")
    shelf.put(DAY, "local", "vault")
    lock(shelf)
    decisions = plan_cleanup(shelf.settings, "lib", LAST)
    found = {one.candidate.id: one for one in decisions}[old.id]
    assert not found.keep and any("that copy stays" in reason for reason in found.reasons)
    assert carry_out(shelf.settings, "lib", decisions) == (), "a copy of it is left"
    assert old.id not in ids(shelf, "local") and old.id in ids(shelf, "vault")
    lock(shelf, datetime.now(UTC) - DAY)
    assert carry_out(shelf.settings, "lib", plan_cleanup(shelf.settings, "lib", LAST)) == (old.id,)


def test_a_lock_that_only_the_store_knows_fails_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock counts, not ours."""
    old = shelf.put(timedelta(0), "vault")
    shelf.put(DAY, "vault")
    lock(shelf)
    monkeypatch.setattr(LockingStore, "locked", lambda *_: None)
    decisions = plan_cleanup(shelf.settings, "lib", LAST)
    assert not {one.candidate.id: one for one in decisions}[old.id].keep
    assert carry_out(shelf.settings, "lib", decisions) == () and old.id in ids(shelf)


def test_what_is_locked_is_not_deleted_by_hand_and_keeps_its_other_copies(shelf: Shelf) -> None:
    backup = shelf.put(timedelta(0), "local", "vault")
    lock(shelf)
    with pytest.raises(Protected, match="vault locks it until 2099-12-31 23:00:00 UTC"):
        delete(shelf.settings, DeleteRequest(reference=backup.id))
    assert backup.id in ids(shelf, "local")


def test_show_and_verify_name_the_end_of_a_lock(shelf: Shelf) -> None:
    backup = shelf.put(timedelta(0), "local", "vault")
    assert locks_of(shelf.settings, backup) == {} and "Locked" not in copy_rows(backup, {})[0]
    lock(shelf)
    locks = {store: str(one) for store, one in locks_of(shelf.settings, backup).items()}
    assert [row["Locked"] for row in copy_rows(backup, locks)] == ["", "until 2099-12-31 23:00:00 UTC (compliance)"]
    chosen = choose_copies(shelf.settings, VerifyRequest())
    assert {one.copy.store: one.lock for one in chosen} == {"local": "", "vault": locks["vault"]}
