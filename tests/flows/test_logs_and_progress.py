"""What Prefect shows of a run while it works, and afterwards: the log lines of the core, and its progress."""

from __future__ import annotations

import time
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect_runs import last_run

from flows.backup import backup
from scriptorium.progress import Step
from tasks import progress


def lines(run_id: Any, wanted: str) -> list[str]:
    """The log tab of a run, as soon as it has the wanted line: logs are sent every few seconds."""
    until = time.monotonic() + 30
    while True:
        with get_client(sync_client=True) as client:
            found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])), limit=200)
        output = [f"{one.name}: {one.message}" for one in found]
        if any(wanted in line for line in output) or time.monotonic() > until:
            return output
        time.sleep(0.2)


def test_the_log_tab_has_what_the_core_did(chosen: Any) -> None:
    done = backup(library="bibliotheca")
    run, _ = last_run("backup")
    output = lines(run.id, f"backup {done.id} is ")
    for wanted in ("scriptorium.operations.backup: ", "snapshot of kuzu", "packing ", "verifying ", "storing in local"):
        assert any(wanted in line for line in output), (wanted, output)


def test_a_long_step_is_shown_as_the_runs_progress(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    shown: list[tuple[float, str]] = []
    real = progress._Showing._show

    def show(self: Any) -> None:
        real(self)
        shown.append((self._done, self._text()))

    monkeypatch.setattr(progress._Showing, "_show", show)
    backup(library="bibliotheca")
    assert any("packing" in text for _, text in shown) and progress._artifacts


def test_outside_of_a_run_nothing_is_sent() -> None:
    with progress.shown(Step("packing")) as advance:
        advance(1)
