"""The progress of a run in Prefect: one progress artifact per run, updated by a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.runtime import flow_run

from scriptorium import progress, wording
from scriptorium.progress import Advance, Step

_PATIENCE = 2.0  # seconds: a step that ends sooner gets no artifact
_EVERY = 5.0

_artifacts: dict[str, UUID] = {}  # by flow run
_guard = threading.Lock()


@contextlib.contextmanager
def shown(step: Step) -> Iterator[Advance]:
    """A watcher of steps: shows the longer steps of a flow run as its progress."""
    run = str(flow_run.id or "")
    if not run:
        yield lambda _: None
        return
    showing = _Showing(run, step)
    thread = threading.Thread(target=copy_context().run, args=(showing.keep_up,), daemon=True, name="progress artifact")
    thread.start()
    try:
        yield showing.advance
    finally:
        showing.over.set()
        if showing.shown:
            thread.join(timeout=_EVERY)


class _Showing:
    def __init__(self, run: str, step: Step) -> None:
        self._run, self._step, self._done, self._began = run, step, 0, time.monotonic()
        self.over = threading.Event()
        self.shown = False

    def advance(self, count: int) -> None:
        self._done += count

    def keep_up(self) -> None:
        """Update the artifact until the step is over. The first failure ends this, and never fails the backup."""
        if self.over.wait(_PATIENCE):
            return
        with contextlib.suppress(Exception):
            while True:
                self.shown = True
                self._show()
                if self.over.wait(_EVERY):
                    self._show()
                    return

    def _show(self) -> None:
        share = progress.share(self._done, self._step.expected) or 0.0
        percent, text = round(share * 100, 1), wording.markdown(self._text())
        with _guard:
            known = _artifacts.get(self._run)
            if known is None:
                key = f"progress-{self._run}"
                _artifacts[self._run] = cast(UUID, create_progress_artifact(percent, key=key, description=text))
                return
        update_progress_artifact(known, percent, description=text)

    def _text(self) -> str:
        return wording.progress(
            str(self._step), self._done, self._step.expected, time.monotonic() - self._began, over=self.over.is_set()
        )
