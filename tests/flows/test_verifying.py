"""The flow that verifies, when a copy cannot be read at all."""

from __future__ import annotations

from typing import Any, BinaryIO

import pytest
from prefect_runs import artifact

from flows.backup import backup
from flows.verify import verify
from scriptorium.catalog import Catalog
from scriptorium.errors import StoreUnavailable
from scriptorium.stores.objects.local import LocalObjects
from scriptorium.words import Status
from tasks.stores import verify_copy


def test_a_copy_that_cannot_be_read_keeps_no_other_from_it(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = backup(type="config"), backup(type="config")
    archive = chosen.backups / first.copies[0].key
    archive.write_bytes(archive.read_bytes()[:-20])
    opened = LocalObjects.open

    def failing(store: LocalObjects, key: str) -> BinaryIO:
        if key == second.copies[0].key:  # a disk with an error in one file; the newest is read first
            raise StoreUnavailable("the store does not answer: Input/output error", on=key, hint="look at the disk")
        return opened(store, key)

    monkeypatch.setattr(LocalObjects, "open", failing)
    monkeypatch.setattr(verify_copy, "retry_delay_seconds", [0.0, 0.0])
    with pytest.raises(
        StoreUnavailable, match=f"1 of 2 copies could not be read; damaged among .*: {first.id}"
    ) as unread:
        verify()
    assert f"{second.id} in local" in str(unread.value) and unread.value.hint == "look at the disk"
    assert Catalog(chosen.settings).find(first.id).status is Status.DAMAGED
    report = artifact("verify-all")
    assert "could not be read" in report and first.id in report
