"""What flows have in common: names that read well, one library after the other, one report that stands in the UI."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from scriptorium.errors import ScriptoriumError
from scriptorium.manifest import readable

Made = TypeVar("Made")
_KEY = re.compile(r"[^a-z0-9-]+")


def given() -> dict[str, Any]:
    """The parameters that say something, for the name of a run. Prefect has those of deployments as text."""
    return {name: value for name, value in flow_run.parameters.items() if value not in (None, "None", "", [])}


def of_library() -> str:
    """`` of bibliotheca``, where the run was told a library."""
    library = given().get("library")
    return f" of {library}" if library else ""


def for_each(libraries: Sequence[str], work: Callable[[str], Made]) -> tuple[Made, ...]:
    """Do it for one library after the other. One that fails keeps no other from it; its error is raised at the end."""
    done: list[Made] = []
    failed: list[tuple[str, ScriptoriumError]] = []
    for library in libraries:
        try:
            done.append(work(library))
        except ScriptoriumError as error:
            failed.append((library, error))
    if failed:
        names = "; ".join(f"{library}: {error}" for library, error in failed)
        first = failed[0][1]
        raise type(first)(f"{len(failed)} of {len(libraries)} failed", on=names, hint=first.hint)
    return tuple(done)


def publish(kind: str, library: str, title: str, facts: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write the run's report as one artifact: what it did, with sizes and times, and the verdict.

    A backup is complete without its report: when the API does not answer, that is said in the log and no more.
    """
    key = _KEY.sub("-", f"{kind}-{library}".lower()).strip("-")
    try:
        create_markdown_artifact(markdown(title, facts, rows), key=key, description=title)
    except Exception as error:  # noqa: BLE001  the report must never cost the backup
        get_run_logger().warning("the report could not be written to Prefect: %s", type(error).__name__)


def markdown(title: str, facts: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> str:
    """Title, a list of facts, a table of rows (their keys are the columns)."""
    lines = [f"# {title}", ""]
    lines += [f"- **{_cell(name)}**: {_cell(value)}" for name, value in facts.items()]
    if rows:
        columns = list(rows[0])
        lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(_cell(row.get(column, '')) for column in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Names of files are bytes: what is no text of theirs would keep the whole report from being written."""
    return readable(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
