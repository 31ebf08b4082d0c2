"""``scriptorium demo``: real libraries are built, backed up, verified, restored and compared."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium.cli.output import command, present, say
from scriptorium.cli.run_flow import flow_runs
from scriptorium.errors import UsageError

if TYPE_CHECKING:
    from scriptorium.cli.demo_stage import Stage

app = typer.Typer()

_MARK = ".scriptorium-demo-folder"


@command(app, "demo", example="scriptorium demo --folder /tmp/demo")
def demo(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="The demo's own folder; emptied each time.")
    ] = Path(".demo"),
    books: Annotated[int, typer.Option("--books", metavar="N", min=10, help="Books in the Kuzu library.")] = 2000,
    items: Annotated[int, typer.Option("--items", metavar="N", min=10, help="Items in the PostgreSQL one.")] = 5000,
) -> None:
    """Build living libraries, back them up while they are written to, verify, list, restore, compare."""
    from scriptorium.cli.demo_stage import Stage, show_list
    from scriptorium.cli.demo_stories import alexandria, bibliotheca

    stage = Stage(folder.absolute())
    _make_place(stage.folder)
    began = time.monotonic()
    with contextlib.ExitStack() as living:
        starts = [bibliotheca(stage, living, books), alexandria(stage, living, items)]
        stage.configure(
            "".join(start.settings for start in starts) + '[stores.local]\nkind = "local"\npath = "backups"\n',
            {name: value for start in starts for name, value in start.secrets.items()},
        )
        with flow_runs():
            for start in starts:
                start.story()
            show_list(stage)
    _show_result(stage, time.monotonic() - began)


def _make_place(folder: Path) -> None:
    """Empty the demo's own folder, except for Prefect's history. A folder that is not ours is an error."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise UsageError("this folder is not empty and no demo made it", on=str(folder), hint="give another --folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / _MARK).touch()
    for entry in folder.iterdir():
        if entry.name in (_MARK, "prefect"):
            continue
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _show_result(stage: Stage, seconds: float) -> None:
    from scriptorium.report.demo import demo_report

    prefect = Path(sys.executable).parent / "prefect"
    server = f"PREFECT_HOME={stage.folder / 'prefect'} {prefect} server start"
    say("")
    present(demo_report(stage.steps, stage.archives, seconds, server=server))
