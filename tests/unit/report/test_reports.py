"""Every result is made once: what a command prints, its JSON and the page of a run come from one report."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import scriptorium.cli
from scriptorium.cli import output
from scriptorium.errors import StoreUnavailable
from scriptorium.model import (
    Backup,
    Check,
    Copy,
    Finding,
    Health,
    Proof,
    TableFingerprint,
    Verification,
)
from scriptorium.report.adopt import adopt_report
from scriptorium.report.backup import taken_report
from scriptorium.report.backups import delete_report, list_report, pin_report, rebuilt_report
from scriptorium.report.database import database_backup_report, database_restore_report, health_report
from scriptorium.report.demo import Step, demo_report
from scriptorium.report.drill import drill_report
from scriptorium.report.export import export_report
from scriptorium.report.prune import plan_report, prune_report
from scriptorium.report.report import Fields, Report, Table, markdown
from scriptorium.report.restore import preflight_report, restore_report, undo_report
from scriptorium.report.show import show_report
from scriptorium.report.statistics import statistics_report
from scriptorium.report.verify import verify_report
from scriptorium.requests import DatabaseBackupRequest, DatabaseRestoreRequest
from scriptorium.results import (
    Adopted,
    AdoptOutcome,
    Checked,
    Comparison,
    DrillResult,
    ExportedTable,
    ExportResult,
    Figures,
    Listing,
    PreflightRow,
    Problem,
    PruneResult,
    Restored,
    RestoreResult,
    Statistics,
    UndoResult,
    Usage,
    VerifyResult,
)
from scriptorium.retention import Candidate, Decision
from scriptorium.words import BackupType, Status, Tier

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
COPY = Copy("local", "lib/full_1.tar.gz", 1536, Status.VERIFIED)
BACKUP = Backup("0123456789ab", "first", "lib", BackupType.FULL, Tier.MANUAL, NOW, "", 1536, Status.VERIFIED, (COPY,))
LACKING = Backup(
    "ba9876543210", "second", "lib", BackupType.FULL, Tier.MANUAL, NOW, "", 9, Status.DEGRADED, (COPY,), unsaved=5
)
PROOF = Proof(NOW, "local", True, 75.2, 60.0, 3, 1536, 1, 50, (Check("covers", True, 0),))
SOUND = Checked(BACKUP, COPY, Verification(NOW, True, seconds=1.0))
DAMAGED = Checked(LACKING, COPY, Verification(NOW, False, ("one bit", "another"), seconds=1.0))
DOWN = StoreUnavailable("does not answer", on="vault")
EXPORT = ExportResult(
    "0123456789ab",
    "first",
    "lib",
    "csv",
    "/out",
    (ExportedTable("graph", "Book", "/out/Book.csv", 50, 2048),),
    ("seq",),
)
RESTORED = Restored(
    "/out",
    3,
    1536,
    {"Book": TableFingerprint(50, "f" * 64)},
    ("graph",),
    ("no owner",),
    Comparison(1),
    "kept",
    ("a.jpg",),
)
ROWS = (PreflightRow("space", "enough"), PreflightRow("store", "down", DOWN))
DECISIONS = tuple(
    Decision(
        Candidate(one.id, "lib", BackupType.FULL, Tier.MANUAL, NOW, one.status, bytes=one.bytes),
        keep,
        ("last 1",),
    )
    for one, keep in ((BACKUP, True), (LACKING, False))
)
FIGURES = Figures(2, 1545, NOW, NOW, {"full": 2}, NOW, None, None, 0, 1, 0)
REPORTS = {
    "taken": taken_report(LACKING, ["/backups/a.tar.gz"], DOWN),
    "listed": list_report(Listing([BACKUP, LACKING], (Problem("vault", "down"),)), NOW),
    "shown": show_report(BACKUP, None, [PROOF], None, NOW),
    "pinned": pin_report(BACKUP, True),
    "deleted": delete_report(BACKUP),
    "rebuilt": rebuilt_report(2),
    "verified": verify_report(VerifyResult((SOUND,), {})),
    "damaged": verify_report(VerifyResult((SOUND, DAMAGED), {"x in vault": DOWN})),
    "drilled": drill_report(DrillResult(BACKUP, PROOF)),
    "exported": export_report(EXPORT, Path("/out")),
    "preflight": preflight_report(BACKUP.id, "lib", ROWS),
    "restored": restore_report(RestoreResult(BACKUP.id, "lib", "local", ROWS[:1], RESTORED, LACKING, (), 2.0, True)),
    "undone": undo_report(UndoResult("lib", BACKUP.id, None, ("b.jpg",))),
    "planned": plan_report("lib", DECISIONS),
    "pruned": prune_report(PruneResult(DECISIONS, (LACKING.id,), (), False)),
    "statistics": statistics_report(Statistics(FIGURES, {"lib": FIGURES}, {"local": Usage("local", 1545, None)})),
    "adopted": adopt_report([AdoptOutcome(Path("a.zip"), Adopted(Path("a.zip"), BACKUP, ()))], [BACKUP.id]),
    "dumped": database_backup_report(DatabaseBackupRequest(file="/out/one.dump"), 2048, 1.0),
    "loaded": database_restore_report(DatabaseRestoreRequest(file="/out/one.dump"), ("left out",), 1.0),
    "checked": health_report(Health({"server": "16"}, ()), "lib"),
    "demo": demo_report(
        [Step("backing up", "equal", 1.0)], {"one, archive": "1 KiB"}, 2.0, server="prefect server start"
    ),
    "unsound": health_report(Health({"server": "16"}, (Finding("broken", "index"),)), "lib"),
}


def printed(report: Report, monkeypatch: pytest.MonkeyPatch, *, as_json: bool = False) -> tuple[str, str]:
    """What a command writes to standard output, and to standard error."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(output, "manner", output.Manner(json=as_json))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    output.present(report)
    return out.getvalue(), err.getvalue()


def words(report: Report) -> Iterator[str]:
    """Every cell and every value that a terminal shows."""
    for block in report.blocks:
        if not block.detail:
            cells = [block.pairs] if isinstance(block, Fields) else block.rows
            for row in cells:
                for value in row.values():
                    yield from [value] if isinstance(value, str) else value


@pytest.mark.parametrize("name", REPORTS)
def test_what_a_command_prints_its_json_and_the_page_are_one_report(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = REPORTS[name]
    out, err = printed(report, monkeypatch)
    page = markdown(report)
    assert page.startswith(f"# {report.title}\n") and report.document is not None
    shown, on_page = "".join(out.split()), "".join(page.replace("\\", "").split())
    for word in words(report):
        assert "".join(word.split()) in shown and "".join(word.split()) in on_page, word
    for note in report.notes:
        assert note in out and "".join(note.split()) in on_page
    for warning in report.warnings:
        assert f"warning: {warning}\n" in err and warning not in out and warning in page.replace("\\", "")
    assert not report.verdict or (report.verdict in out) is report.good
    assert report.verdict in page.replace("\\", "")
    as_json, warned = printed(report, monkeypatch, as_json=True)
    assert json.loads(as_json) == json.loads(json.dumps(report.document)) and warned == err


def test_a_page_shows_more_than_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = printed(REPORTS["restored"], monkeypatch)
    page = markdown(REPORTS["restored"])
    assert "| space | enough |" in page and "| Book | 50 |" in page and LACKING.id in page
    assert "enough" not in out and LACKING.id not in out


def test_a_long_list_of_sentences_is_cut_on_a_page_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("x", "lib", "Many", {}, notes=[f"note {number}." for number in range(100)])
    assert "and 80 more" in markdown(report) and "note 20." not in markdown(report)
    assert "note 99." in printed(report, monkeypatch)[0]


def test_columns_of_numbers_are_right_aligned_on_a_page() -> None:
    page = markdown(Report("x", "lib", "One", {}, (Table([{"A": "a", "B": ("1", "2")}], right=("B",)),)))
    assert page == "# One\n\n| A | B |\n|---|---:|\n| a | 1; 2 |\n"


@pytest.mark.parametrize("file", sorted(Path(scriptorium.cli.__file__).parent.glob("*.py")), ids=lambda file: file.stem)
def test_commands_build_no_documents_and_no_tables(file: Path) -> None:
    """A command hands over a report. The error of a call (`output`) is the exception."""
    if file.stem == "output":
        return
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        writes = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("put_json", "table", "put_pairs")
        if isinstance(node, ast.Call) and writes:
            built = [type(inside) for argument in node.args for inside in ast.walk(argument)]
            assert not {ast.Dict, ast.ListComp} & set(built), f"{file.name}:{node.lineno}"
