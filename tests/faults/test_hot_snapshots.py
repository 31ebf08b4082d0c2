"""Hundreds of snapshots of a database under load, each of them opened and checked; and a naive copy, which the check
must find wrong."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scriptorium.errors import SnapshotBusy, SourceDamaged
from scriptorium.quiesce.pause import snapshot
from scriptorium.sources.kuzu.source import KuzuSource
from scriptorium.sources.quiesce import Quiesce

LARGEST = 60 << 20  # bytes; kuzu's file grows by rewriting, and the test is not about sizes


def source(database: Path, **more: Any) -> KuzuSource:
    return KuzuSource(path=database, **more)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Large copies, removed at once. They are on a disk: in memory a sync takes no time, and a writer of the folder
    layout that never waits leaves no gap for a snapshot."""
    with tempfile.TemporaryDirectory(prefix="scriptorium-hot-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


class Load:
    """A writer that is replaced by a new one, with a new database, when its file is too large."""

    def __init__(self, lab: ModuleType, folder: Path, **wish: Any) -> None:
        self._lab, self._folder, self._wish = lab, folder, wish
        self._number = 0
        self.writer = self._next()

    def _next(self) -> Any:
        self._number += 1
        writer = self._lab.Writer(self._folder / f"app{self._number}", dict(self._wish))
        writer.start()
        return writer

    def next_writer(self) -> Any:
        """The living writer, which has committed since the last time."""
        size = sum(path.stat().st_size for path in self.writer.folder.rglob("*") if path.is_file())
        if size > LARGEST:
            self.writer.kill()
            shutil.rmtree(self.writer.folder)
            self.writer = self._next()
        self.writer.wait_beyond(self.writer.acknowledged)
        return self.writer


@pytest.fixture
def load(lab: ModuleType, scratch: Path) -> Iterator[Any]:
    loads: list[Load] = []

    def begin(**wish: Any) -> Load:
        loads.append(Load(lab, scratch, **wish))
        return loads[-1]

    yield begin
    for one in loads:
        one.writer.kill()


_NAIVE = 20  # so many copies until one must be found wrong; usually it is the first


def _require_honest_snapshots(lab: ModuleType, scratch: Path, load: Load, count: int, engine: Path | None) -> None:
    """Take ``count`` snapshots, each must be honest."""
    for number in range(count):
        writer = load.next_writer()
        stage = scratch / f"stage{number}"
        stage.mkdir()
        acknowledged = writer.acknowledged
        staged = snapshot(source(writer.database, engine=engine), stage, ())
        assert writer.alive
        counter = staged.tables["TRANSFER"].rows  # type: ignore[index]
        assert counter >= acknowledged
        complaint = lab.complaint(Path(staged.trees[0].root), acknowledged, str(engine) if engine else None)
        assert complaint == "", staged.method
        assert staged.method.startswith("epoch copy")
        shutil.rmtree(stage)


def _require_a_naive_copy_caught(lab: ModuleType, scratch: Path, load: Load, engine: Path | None) -> None:
    """Copy the same load naively until the check finds an error: without one, the check would prove nothing."""
    for number in range(_NAIVE):
        writer = load.next_writer()
        acknowledged = writer.acknowledged
        copy = lab.naive_zip(writer.database, scratch / f"naive{number}")
        caught = lab.complaint(copy, acknowledged, str(engine) if engine else None)
        shutil.rmtree(scratch / f"naive{number}")
        if caught:
            return
    pytest.fail("the naive copy was never caught: this harness proves nothing")


@pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_every_snapshot_of_a_living_database_is_honest(lab: ModuleType, scratch: Path, load: Any, count: int) -> None:
    under = load()
    _require_honest_snapshots(lab, scratch, under, count, None)
    _require_a_naive_copy_caught(lab, scratch, under, None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_hundreds_of_snapshots_are_honest(lab: ModuleType, scratch: Path, load: Any, seed: int) -> None:
    under = load(seed=seed)
    _require_honest_snapshots(lab, scratch, under, 100, None)
    _require_a_naive_copy_caught(lab, scratch, under, None)


@pytest.mark.parametrize("count", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_every_snapshot_of_the_folder_layout_is_honest(
    lab: ModuleType, scratch: Path, load: Any, old_kuzu: Path, count: int
) -> None:
    under = load(engine=str(old_kuzu))
    _require_honest_snapshots(lab, scratch, under, count, old_kuzu)
    _require_a_naive_copy_caught(lab, scratch, under, old_kuzu)


def _busy(lab: ModuleType, writer: Any, stage: Path) -> SnapshotBusy | None:
    """When processes wait for a processor, the writer sometimes leaves a gap: then the snapshot is honest."""
    stage.mkdir()
    acknowledged = writer.acknowledged
    try:
        staged = snapshot(source(writer.database, patience=1.0), stage, ())
    except SnapshotBusy as error:
        assert list(stage.iterdir()) == []
        return error
    assert lab.complaint(Path(staged.trees[0].root), acknowledged) == "", staged.method
    shutil.rmtree(stage)
    return None


def test_a_writer_that_leaves_no_gap_is_reported_with_figures_and_paused_if_allowed(
    lab: ModuleType, scratch: Path, load: Any
) -> None:
    writer = load(checkpoint_every=1, bulk_every=0).next_writer()
    busy = next(filter(None, (_busy(lab, writer, scratch / f"stage{number}") for number in range(10))), None)
    assert busy is not None, "ten times in a row there was a gap"
    assert re.search(r"\d+ attempts, the longest epoch seen lasted \d\.\d\d s, .*copy", str(busy)), busy
    assert "quiesce" in busy.hint

    for number in range(3):
        stage = scratch / f"paused{number}"
        stage.mkdir()
        acknowledged = writer.acknowledged
        quiesce = Quiesce(pid=writer.process.pid)
        staged = snapshot(source(writer.database, patience=0.05, quiesce=quiesce), stage, ())
        assert staged.method.startswith("paused copy")
        assert lab.complaint(Path(staged.trees[0].root), acknowledged) == ""
        shutil.rmtree(stage)
        writer.wait_beyond(writer.acknowledged)  # it is running again


def test_a_database_whose_application_was_killed_keeps_what_its_wal_held(lab: ModuleType, scratch: Path) -> None:
    with lab.start(scratch / "app", checkpoint_every=0, ballast=2_000) as writer:
        writer.wait_beyond(30)
        writer.kill()
    stage = scratch / "stage"
    stage.mkdir()
    wal = writer.database.with_name("app.db.wal")
    before = (wal.read_bytes(), writer.database.read_bytes())
    staged = snapshot(source(writer.database), stage, ())
    assert lab.complaint(Path(staged.trees[0].root), writer.acknowledged) == ""
    assert (wal.read_bytes(), writer.database.read_bytes()) == before, "the living files are only read"
    assert {path.name for path in (stage / "raw").iterdir()} == {"app.db"}


def test_an_application_killed_in_a_checkpoint_is_copied_or_called_damaged(lab: ModuleType, scratch: Path) -> None:
    with lab.start(scratch / "app", checkpoint_every=2, ballast=2_000) as writer:
        shadow = writer.database.with_name("app.db.shadow")
        until = time.monotonic() + 30
        while True:  # stop it at random until it is stopped in a checkpoint
            os.kill(writer.process.pid, signal.SIGSTOP)
            time.sleep(0.002)
            if shadow.exists():
                break
            os.kill(writer.process.pid, signal.SIGCONT)
            time.sleep(0.003)
            assert time.monotonic() < until
        acknowledged = writer.acknowledged
        stage = scratch / "stage"
        stage.mkdir()
        with pytest.raises(SnapshotBusy, match="a checkpoint"):
            source(writer.database, patience=0.2).capture(stage)
        writer.kill()
    try:
        staged = snapshot(source(writer.database, patience=30), stage, ())
    except SourceDamaged:  # measured: about half of such images cannot be recovered by Kuzu itself
        return
    assert staged.method.startswith("copy of a stopped database")
    assert lab.complaint(Path(staged.trees[0].root), acknowledged) == ""


@pytest.mark.parametrize("edited", [0, pytest.param(600, marks=pytest.mark.slow)])
def test_a_bulk_load_is_never_seen_without_the_rest_of_its_transaction(
    lab: ModuleType, scratch: Path, edited: int
) -> None:
    """COPY's rows are not in the WAL: they are written with the checkpoint that the commit forces.

    ``edited``: long texts of another table, which the checkpoint writes first, for more than a second.
    """
    folder = scratch / "app"
    folder.mkdir()
    (scratch / "rows.csv").write_text("".join(f"{number},{'x' * 300}\n" for number in range(30_000)))
    database = folder / "app.db"
    code = (
        "import kuzu, os, sys\n"
        "db = kuzu.Database(sys.argv[1], buffer_pool_size=4 << 30, auto_checkpoint=False); c = kuzu.Connection(db)\n"
        "c.execute('CREATE NODE TABLE First(id INT64, s STRING, PRIMARY KEY(id))')\n"
        "for start in range(0, 10 * int(sys.argv[3]), 500):\n"
        "    rows = [{'id': start + n, 's': os.urandom(8_000).hex()} for n in range(500)]\n"
        "    c.execute('UNWIND $rows AS r CREATE (:First {id: r.id, s: r.s})', {'rows': rows})\n"
        "c.execute('CHECKPOINT')\n"
        "for n in range(int(sys.argv[3])):\n"
        "    c.execute('MATCH (f:First) WHERE f.id = $n SET f.s = $s', {'n': n * 10, 's': os.urandom(8_000).hex()})\n"
        "c.execute('CREATE NODE TABLE T(id INT64, s STRING, PRIMARY KEY(id))')\n"
        "c.execute(\"CREATE (:T {id: -1, s: 'before'})\")\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "c.execute('BEGIN TRANSACTION'); c.execute(\"CREATE (:T {id: -2, s: 'with the load'})\")\n"
        "c.execute(f\"COPY T FROM '{sys.argv[2]}'\"); c.execute('COMMIT')\n"
        "print('done', flush=True); sys.stdin.readline()\n"
    )
    process = lab.subprocess.Popen(
        [lab.sys.executable, "-c", code, str(database), str(scratch / "rows.csv"), str(edited)],
        stdin=lab.subprocess.PIPE,
        stdout=lab.subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
        seen = []
        for number in range(6):
            stage = scratch / f"stage{number}"
            stage.mkdir()
            seen.append(snapshot(source(database), stage, ()).tables["T"].rows)  # type: ignore[index]
            shutil.rmtree(stage)
        assert set(seen) <= {1, 30_002}, seen
        assert seen[-1] == 30_002
    finally:
        process.kill()
        process.communicate()
