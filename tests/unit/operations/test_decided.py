"""A plan that was shown and confirmed is carried out as it is; anything else is planned anew."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scriptorium.operations.decided import decided, plan_of
from scriptorium.operations.export import ExportPlan
from scriptorium.operations.prune import PrunePlan, plan_prune, prune
from scriptorium.requests import PruneRequest
from scriptorium.retention import Policy

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
REQUEST = PruneRequest(library="lib", policy=Policy(last=1))


def test_what_a_user_has_confirmed_is_what_is_removed(shelf: Any) -> None:
    old, new = shelf.put(), shelf.put(56 * DAY)
    plan = plan_prune(shelf.settings, REQUEST, now=NOW)
    shelf.put(57 * DAY)  # another run takes a backup while the user reads the question
    with decided(REQUEST, plan):
        assert prune(shelf.settings, REQUEST).removed == (old.id,)
    assert prune(shelf.settings, REQUEST).removed == (new.id,)


def test_a_plan_is_for_its_request_alone_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = PrunePlan({}, dry_run=False)
    with decided(REQUEST, plan):
        assert plan_of(REQUEST.model_copy(), PrunePlan) is plan
        assert plan_of(PruneRequest(library="lib"), PrunePlan) is None
        assert plan_of(REQUEST, ExportPlan) is None
        monkeypatch.setattr(time, "monotonic", lambda: plan.began + 301)
        assert plan_of(REQUEST, PrunePlan) is None
    assert plan_of(REQUEST, PrunePlan) is None
