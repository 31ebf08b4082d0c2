"""``scriptorium demo``: the main job on a real library, from nothing to a restore that is compared."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium import process, wording
from scriptorium.catalog import Catalog
from scriptorium.cli.documents import backup_row
from scriptorium.cli.frame import command, facts, manner, put_json, say, table
from scriptorium.cli.running import flow_runs
from scriptorium.errors import DamageFound, ToolFailed, UsageError
from scriptorium.model import Backup, Finding, Manifest, TableFacts
from scriptorium.settings import choose_file, current, set_defaults

if TYPE_CHECKING:
    from scriptorium.rescue import Restored

app = typer.Typer()

_MARK = ".scriptorium-demo-folder"
_SETTINGS = """\
[libraries.bibliotheca]
preset = "bibliotheca"
home = "bibliotheca"

[stores.local]
kind = "local"
path = "backups"
"""


@dataclass
class _Step:
    what: str
    result: str
    seconds: float


class _Show:
    """Says what is being done and how long it took; collects the rows of the summary."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[_Step]:
        say(f"· {what} …")
        sys.stdout.flush()
        step = _Step(what, "", 0.0)
        began = time.monotonic()
        yield step
        step.seconds = time.monotonic() - began
        self.steps.append(step)
        say(f"  {step.result}  [{wording.duration(step.seconds)}]")


@command(app, "demo", example="scriptorium demo --folder /tmp/demo")
def demo(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where it is done; made anew each time.")
    ] = Path(".demo"),
    books: Annotated[int, typer.Option("--books", metavar="N", min=10, help="How many books.")] = 2000,
) -> None:
    """Build a living library, back it up while it is written to, verify, list, restore, compare."""
    folder = folder.absolute()
    _make_place(folder)
    show = _Show()
    began = time.monotonic()
    home = folder / "bibliotheca"
    with show.step(f"building a Bibliotheca library of {books:,} books in {home}") as step:
        step.result = _build(home, books)
    with _writer(home, folder / "writer.log") as acknowledged:
        before = acknowledged()
        with flow_runs():
            backup = _back_up(show)
            during = acknowledged() - before
            _verify(show, backup)
            _list(show)
            restored = [_restore(show, backup, folder / "restored", rebuild=False)]
            restored.append(_restore(show, backup, folder / "restored-from-export", rebuild=True))
            after = acknowledged() - before
    manifest = Catalog(current()).manifest(backup.copies[0])
    with show.step("comparing what was restored with what the manifest recorded") as step:
        step.result = _compare(manifest, folder / "restored", restored)
    _summary(show, backup, manifest, restored[0], during, after, time.monotonic() - began, folder)


def _make_place(folder: Path) -> None:
    """Empty the demo's own folder; one that is not ours is left alone. Prefect's history is kept."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise UsageError("this folder is not empty and no demo made it", on=str(folder), hint="give another --folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / _MARK).touch()
    for entry in folder.iterdir():
        if entry.name in (_MARK, "prefect"):
            continue
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    settings = folder / "scriptorium.toml"
    settings.write_text(_SETTINGS)
    choose_file(settings)
    set_defaults({"PREFECT_HOME": str(folder / "prefect")})


def _build(home: Path, books: int) -> str:
    from scriptorium.demo.bibliotheca import build_bibliotheca

    built = build_bibliotheca(home, books=books)
    return (
        f"{built.books:,} books, {built.people:,} persons, {built.readers} users, {built.reading_logs:,} reading logs, "
        f"{built.relationships:,} relationships ({wording.size(built.bytes)}), {built.covers} covers"
    )


@contextlib.contextmanager
def _writer(home: Path, log: Path) -> Iterator[Callable[[], int]]:
    """A process of its own that keeps writing to the database; yields how many transactions it has acknowledged."""
    child = process.start(
        [sys.executable, "-m", "scriptorium.demo.writer", str(home), "--log", str(log)], stdout=None, stderr=None
    )

    def acknowledged() -> int:
        if child.poll() is not None:
            raise ToolFailed("the demo's writer has stopped", on=f"status {child.returncode}")
        return log.read_bytes().count(b"\n") if log.exists() else 0

    try:
        deadline = time.monotonic() + 60
        while acknowledged() < 3:
            if time.monotonic() > deadline:
                raise ToolFailed("the demo's writer does not begin")
            time.sleep(0.05)
        yield acknowledged
    finally:
        process.end(child, grace=20)


def _back_up(show: _Show) -> Backup:
    with show.step("a full backup as a Prefect flow run, while another process writes to the database") as step:
        from flows.backup import backup as flow

        backup: Backup = flow(library="bibliotheca", name="demo", description="taken by the demo")
        step.result = f"{backup.id}: {wording.size(backup.bytes)}, {backup.status}"
    return backup


def _verify(show: _Show, backup: Backup) -> None:
    with show.step("verifying the stored copy: every byte read back, every hash compared") as step:
        from flows.verify import verify as flow

        (checked,) = flow(ids=[backup.id])
        if not checked.verification.sound:
            raise DamageFound("the copy is damaged", on=backup.id, hint="; ".join(checked.verification.damage))
        step.result = "sound"


def _list(show: _Show) -> None:
    from datetime import UTC, datetime

    with show.step("listing what there is") as step:
        backups = Catalog(current()).backups()
        step.result = f"{len(backups)} backup{'s' if len(backups) != 1 else ''}"
    table([backup_row(backup, datetime.now(UTC)) for backup in backups], right=("Size",))


def _restore(show: _Show, backup: Backup, target: Path, *, rebuild: bool) -> Restored:
    how = "the Parquet export" if rebuild else "the raw copy"
    with show.step(f"restoring to {target}, the database from {how}") as step:
        from flows.restore import restore as flow

        restored: Restored = flow(reference=backup.id, path=str(target), rebuild=rebuild)
        step.result = (
            f"{restored.files:,} files, {wording.size(restored.bytes)}; {len(restored.tables)} tables compared"
        )
    return restored


def _compare(manifest: Manifest, target: Path, restored: list[Restored]) -> str:
    """Independently of what the restores compared on their way: files read again from disk, tables side by side."""
    from scriptorium.rescue import compare_files

    findings = compare_files(manifest, target)
    expected: dict[str, TableFacts] = {}
    for part in manifest.parts:
        expected |= part.tables or {}
    for one in restored:
        wrong = [name for name, held in expected.items() if one.tables.get(name) != held]
        findings += tuple(Finding("different content", name) for name in wrong)
    if findings or not expected:
        raise DamageFound("what was restored is not what was backed up", hint="; ".join(map(str, findings[:5])))
    rows = sum(held.rows for held in expected.values())
    return f"equal: {manifest.files.count:,} files by SHA-256, {len(expected)} tables with {rows:,} rows by fingerprint"


def _summary(
    show: _Show,
    backup: Backup,
    manifest: Manifest,
    restored: Restored,
    during: int,
    after: int,
    seconds: float,
    folder: Path,
) -> None:
    content = sum(part.bytes for part in manifest.parts)
    if manner.json:
        steps = [{"what": step.what, "result": step.result, "seconds": round(step.seconds, 3)} for step in show.steps]
        put_json({"id": backup.id, "steps": steps, "transactions_during_backup": during, "seconds": round(seconds, 3)})
    say("")
    table(
        [{"Step": s.what, "Result": s.result, "Took": wording.duration(s.seconds)} for s in show.steps], right=("Took",)
    )
    facts(
        {
            "content": f"{wording.size(content)} in {restored.files:,} files and {len(restored.tables)} tables",
            "archive": f"{wording.size(backup.bytes)}, {current().store('local').location(backup.copies[0].key)}",
            "while it ran": f"the other process committed {during} transactions during the backup, {after} in all",
            "in all": wording.duration(seconds),
            "the runs": f"PREFECT_HOME={folder / 'prefect'} {Path(sys.executable).parent / 'prefect'} server start",
            "": "then open http://127.0.0.1:4200/runs",
        }
    )
    say("\nDone: backed up hot, verified, restored twice, compared. Everything is equal.")
