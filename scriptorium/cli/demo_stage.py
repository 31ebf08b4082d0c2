"""The folder and the results of the demo, and the steps that both of its libraries share."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium import wording
from scriptorium.catalog import Catalog
from scriptorium.cli.output import say, show
from scriptorium.cli.run_flow import carried_out
from scriptorium.errors import DamageFound
from scriptorium.model import Backup, Finding, TableFingerprint
from scriptorium.report.backups import list_report
from scriptorium.report.demo import Step
from scriptorium.settings import choose_file, current, set_defaults

if TYPE_CHECKING:
    from scriptorium.restore import Restored


@dataclass
class Stage:
    """The folder of the demo, and what it has done so far."""

    folder: Path
    steps: list[Step] = field(default_factory=list)
    archives: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[Step]:
        """Print what is being done, then its result and how long it took."""
        say(f"· {what} …")
        sys.stdout.flush()
        step = Step(what)
        began = time.monotonic()
        yield step
        step.seconds = time.monotonic() - began
        self.steps.append(step)
        say(f"  {step.result}  [{wording.duration(step.seconds)}]")

    def configure(self, settings: str, secrets: Mapping[str, str]) -> None:
        """Write the settings file of the demo and use it in this process."""
        file = self.folder / "scriptorium.toml"
        file.write_text(settings)
        file.chmod(0o600)
        choose_file(file)
        set_defaults({"PREFECT_HOME": str(self.folder / "prefect"), **secrets})


@dataclass(frozen=True)
class Start:
    """A library in use: its tables of the settings file, its secrets by variable, and what is then done with it."""

    settings: str
    secrets: Mapping[str, str]
    story: Callable[[], None]


def back_up(stage: Stage, library: str, acknowledged: Callable[[], int]) -> Backup:
    """Take a full backup while another process writes to the database."""
    before = acknowledged()
    with stage.step(f"{library}: a full backup as a Prefect flow run, while another process writes") as step:
        from flows.backup import backup as flow

        backup: Backup = carried_out(flow, library=library, name=f"demo-{library}", description="taken by the demo")
        during = acknowledged() - before
        step.result = f"{backup.id}: {wording.size(backup.bytes)}, {backup.status}; {during} transactions meanwhile"
    if during == 0:
        raise DamageFound("the writer wrote nothing during the backup", on=library)
    archive = current().store("local").location(backup.copies[0].key)
    stage.archives[f"{library}, archive"] = f"{wording.size(backup.bytes)}, {archive}"
    return backup


def verify(stage: Stage, backup: Backup) -> None:
    """Read the stored copy back."""
    with stage.step(f"{backup.library}: verifying the stored copy, every byte read back, every hash compared") as step:
        from flows.verify import verify as flow

        (checked,) = carried_out(flow, ids=[backup.id]).checked
        if not checked.verification.sound:
            raise DamageFound("the copy is damaged", on=backup.id, hint="; ".join(checked.verification.damage))
        step.result = "sound"


def restore(
    stage: Stage, backup: Backup, what: str, *, path: str | None = None, rebuild: bool = False, database: str = ""
) -> Restored:
    """Restore the backup as a flow run."""
    with stage.step(f"{backup.library}: restoring {what}") as step:
        from flows.restore import restore as flow

        result = carried_out(flow, reference=backup.id, path=path, rebuild=rebuild, database=database)
        restored: Restored = result.restored
        step.result = f"{restored.files:,} files, {wording.size(restored.bytes)}; {len(restored.tables)} tables"
    return restored


def compare(stage: Stage, backup: Backup, target: Path, restored: list[Restored]) -> None:
    """Compare once more, independently of the restores: files are read from disk, tables are compared one by one."""
    from scriptorium.restore import compare_files

    with stage.step(f"{backup.library}: comparing the restored data with the manifest") as step:
        manifest = Catalog(current()).manifest(backup.copies[0])
        findings = compare_files(manifest, target)
        expected: dict[str, TableFingerprint] = {}
        for part in manifest.parts:
            expected |= part.tables or {}
        for one in restored:
            wrong = [name for name, held in expected.items() if one.tables.get(name) != held]
            findings += tuple(Finding("different content", name) for name in wrong)
        if findings or not expected:
            raise DamageFound("the restored data is not what was backed up", hint="; ".join(map(str, findings[:5])))
        rows = sum(held.rows for held in expected.values())
        files = f"{manifest.files.count:,} files by SHA-256"
        step.result = f"equal: {files}, {len(expected)} tables with {rows:,} rows by fingerprint"


def show_list(stage: Stage) -> None:
    """Show the backups like ``scriptorium list``."""
    with stage.step("listing the backups") as step:
        listing = Catalog(current()).listing()
        step.result = f"{len(listing.backups)} backups"
    show(list_report(listing, datetime.now(UTC)))
