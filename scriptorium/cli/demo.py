"""``scriptorium demo``: real libraries are built, backed up, verified, restored and compared."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scriptorium import wording
from scriptorium.cli.output import command, manner, put_json, put_pairs, say, table
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
    _summary(stage, time.monotonic() - began)


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


def _summary(stage: Stage, seconds: float) -> None:
    if manner.json:
        steps = [{"what": one.what, "result": one.result, "seconds": round(one.seconds, 3)} for one in stage.steps]
        put_json({"steps": steps, "facts": stage.facts, "seconds": round(seconds, 3)})
    say("")
    table(
        [{"Step": one.what, "Result": one.result, "Took": wording.duration(one.seconds)} for one in stage.steps],
        right=("Took",),
    )
    prefect = Path(sys.executable).parent / "prefect"
    put_pairs(
        {
            **stage.facts,
            "in all": wording.duration(seconds),
            "the runs": f"PREFECT_HOME={stage.folder / 'prefect'} {prefect} server start",
            "then open": "http://127.0.0.1:4200/runs",
        }
    )
    say("")
    say("Done: backed up while being written to, verified, restored, compared. Everything is equal.")
