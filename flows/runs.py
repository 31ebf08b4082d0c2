"""What all flows share: readable names of runs, the log of a run, and one report per run, which Prefect shows."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.states import Completed

from scriptorium import logs, progress, wording
from scriptorium.catalog.run_progress import named_by
from scriptorium.model import Backup
from scriptorium.report.report import Report, markdown
from scriptorium.words import Status
from tasks.progress import shown

Made = TypeVar("Made")
_KEY = re.compile(r"[^a-z0-9-]+")


def given() -> dict[str, Any]:
    """The parameters that are set, in a legible form, for the name of a run. Those of deployments may be text."""
    return {
        name: _shown(value) for name, value in flow_run.parameters.items() if value not in (None, "None", "", [], ())
    }


def _shown(value: object) -> Any:
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    return wording.legible(value) if isinstance(value, str) else value


class _RunLog(APILogHandler):
    """Sends what the core logs during a flow or a task to the log tab of the run. Prefect's own setting for this
    (``PREFECT_LOGGING_EXTRA_LOGGERS``) is read before our flows are loaded, so we cannot set it here."""

    def __init__(self) -> None:
        super().__init__()
        self.set_name("run log")

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
            super().emit(record)


logs.listen(_RunLog())
progress.watch_always(shown)
named_by(lambda: str(flow_run.id or ""))


def of_library() -> str:
    """`` of bibliotheca``, if the run has the parameter ``library``."""
    library = given().get("library")
    return f" of {library}" if library else ""


def concluded(result: Made, backups: Sequence[Backup]) -> Made:
    """What a flow returns. If one of its backups is degraded, the state of the run is named so, to be seen in the list
    of runs."""
    degraded = [backup for backup in backups if backup.status is Status.DEGRADED]
    if not degraded:
        return result
    message = "; ".join(f"{one.library}: {', '.join(_lacks(one))} (show {one.id})" for one in degraded)
    return cast(
        Made, Completed(name="Degraded", message=message, data=result)
    )  # Prefect returns the data to the caller


def _lacks(backup: Backup) -> list[str]:
    unsaved = [f"{backup.unsaved:,} could not be saved"] if backup.unsaved else []
    return unsaved + [f"no copy in {one.store}" for one in backup.missing]


def publish(report: Report) -> None:
    """Write the report of the run as one artifact: what it did, with sizes and times, and the verdict.

    A backup is complete without its report: if the API does not answer, this is only logged.
    """
    key = _KEY.sub("-", f"{report.kind}-{report.library}".lower()).strip("-")
    try:
        create_markdown_artifact(markdown(report), key=key, description=wording.markdown(report.title))
    except Exception as error:  # noqa: BLE001  the report must never cost the backup
        get_run_logger().warning("the report could not be written to Prefect: %s", type(error).__name__)
