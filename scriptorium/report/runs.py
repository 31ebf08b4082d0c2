"""What each run did, for people: a title, a list of facts, a table. Flows publish it as the run's artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scriptorium import wording
from scriptorium.model import Check, Manifest
from scriptorium.results import BackupResult

_NAMES = 20


@dataclass(frozen=True, slots=True)
class Report:
    """``kind`` and ``library`` name the thing that is reported on; the newest report of the same names replaces it.
    ``rows``: their keys are the columns."""

    kind: str
    library: str
    title: str
    summary: Mapping[str, str]
    rows: Sequence[Mapping[str, str]] = ()


def markdown(report: Report) -> str:
    """The report as Markdown. What came from outside (names, messages) is made harmless."""
    shown = wording.markdown
    lines = [f"# {shown(report.title)}", ""]
    lines += [f"- **{shown(name)}**: {shown(value)}" for name, value in report.summary.items()]
    if report.rows:
        columns = list(report.rows[0])
        lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(shown(row.get(column, '')) for column in columns)} |" for row in report.rows]
    return "\n".join(lines) + "\n"


def backup_report(result: BackupResult) -> Report:
    """A backup that was taken: its size, its stores, what was not saved, and each part."""
    backup, manifest = result.backup, result.manifest
    content = sum(part.bytes for part in manifest.parts)
    archive = manifest.archive.name if manifest.archive else backup.name
    summary = {
        "verdict": str(backup.status),
        "id": backup.id,
        "archive": f"{archive} ({wording.size(backup.bytes)} from {wording.size(content)})",
        "stores": ", ".join(copy.store for copy in backup.copies),
        **{f"no copy in {store}": str(error) for store, error in result.failed.items()},
        **not_saved(manifest),
        "took": wording.duration(result.seconds),
        **{_checked(check): check.cases() for check in manifest.checks},
        "warnings": "; ".join(manifest.warnings[:_NAMES]) or "none",
    }
    rows = [
        {
            "part": part.source,
            "kind": part.kind,
            "files": f"{part.files:,}",
            "size": wording.size(part.bytes),
            "took": wording.duration((part.finished_at - part.started_at).total_seconds()),
            "rows": f"{sum(table.rows for table in part.tables.values()):,}" if part.tables else "",
            "how": part.method,
        }
        for part in manifest.parts
    ]
    return Report("backup", backup.library, f"Backup {backup.name} of {backup.library}", summary, rows)


def _checked(check: Check) -> str:
    return f"{'check' if check.good else 'warning'}: {check.name}"


def not_saved(manifest: Manifest) -> dict[str, str]:
    """What exists and could not be saved, the first by name."""
    if not manifest.unsaved_count:
        return {}
    first = "; ".join(f"{one.path}: {one.reason}" for one in manifest.unsaved[:_NAMES])
    return {"not saved": f"{manifest.unsaved_count:,} ({first})"}
