"""The benchmark measures what it claims: the same tree every time, whole processes, verdicts that can be negative."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import backup, figures
from benchmarks.contest import Contestant, Row, Sample, hold
from benchmarks.figures import GZIP, PACKING, PIGZ, TARFILE, VERIFY_GZIP, VERIFYING, Ratio, ratios
from benchmarks.tree import build_tree
from scriptorium.errors import ToolFailed


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        total.update(str(path.relative_to(root)).encode())
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


def test_the_tree_is_the_same_every_time(tmp_path: Path) -> None:
    summary = build_tree(tmp_path / "one", files=50, megabytes=3)
    assert build_tree(tmp_path / "two", files=50, megabytes=3) == summary
    build_tree(tmp_path / "three", files=50, megabytes=3, seed=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two") != digest(tmp_path / "three")
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == summary.files == 50
    assert sum(path.stat().st_size for path in files) == summary.bytes == pytest.approx(3 << 20, rel=0.01)
    assert 0.2 < summary.prose / summary.bytes < 0.8


def test_children_are_measured_too() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    line = f"{sys.executable} -c '{busy}' & {sys.executable} -c '{busy}'; wait; sleep 0.3"
    sample = Contestant("two busy children", PACKING, ["bash", "-c", line]).run()
    assert sample.cpu >= 0.6 and sample.wall >= 0.6
    large = Contestant("large", PACKING, [sys.executable, "-c", "x = b'1' * 200_000_000"]).run()
    small = Contestant("small", PACKING, ["true"]).run()
    assert large.peak > 200_000_000 and small.peak < 30_000_000  # and not the memory of this very process
    with pytest.raises(ToolFailed, match="status 3"):
        Contestant("fails", PACKING, ["bash", "-c", "exit 3"]).run()


def row(name: str, group: str, wall: float) -> Row:
    return Row(
        name, group, 1 << 20, (Sample(wall, wall, 1 << 20, 0), Sample(99.0, wall, 1 << 20, 0), Sample(0, 0, 0, 0))
    )


def test_ratios_are_of_medians_and_may_miss_their_targets() -> None:
    rows = [
        row(TARFILE, PACKING, 8.0),
        row(PIGZ, PACKING, 4.0),
        row(GZIP, PACKING, 2.0),
        row(VERIFY_GZIP, VERIFYING, 2.5),
    ]
    found = {one.what: one for one in ratios(rows)}
    throughput = found["throughput with gzip over Python's tarfile with gzip"]
    assert throughput.value == 4.0 and throughput.verdict == "met"
    assert found["time with gzip over tar | pigz"].verdict == "MISSED"
    assert found["time to verify over time to pack, gzip"].verdict == "MISSED"
    assert found["time with zstd over tar | zstd -T0"].verdict == "not measured"
    assert Ratio("a", 0.35, most=0.35).met and not Ratio("a", 0.351, most=0.35).met
    assert Ratio("a", 4.0, least=4.0).met and not Ratio("a", 3.99, least=4.0).met
    assert Ratio("a", 4.0).met is None


def test_who_fails_is_out_and_named() -> None:
    good, bad = (
        Contestant("good", PACKING, ["true"]),
        Contestant("bad", PACKING, ["bash", "-c", "echo why >&2; exit 3"]),
    )
    failures: list[str] = []
    rows = hold([bad, good], 2, lambda _: None, failures)
    assert [(one.name, len(one.samples)) for one in rows] == [("good", 2)]
    assert failures == ["'bad' ended with status 3: why\n"]


def test_a_small_run_leaves_results_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "tar", "zstd", "sync", "setpriv"):  # all but pigz
        found = shutil.which(tool)
        if found:
            (tmp_path / "bin" / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    output = tmp_path / "results" / "r.json"
    size = ["--files", "20", "--megabytes", "1", "--kuzu-megabytes", "6", "--rounds", "1"]
    work = tmp_path / "work"
    assert backup.main([*size, "--only", PACKING, "--folder", str(work), "--output", str(output)]) == 0
    assert list(work.iterdir()) == []
    found = json.loads(output.read_text())
    names = {one["name"] for one in found["rows"]}
    assert {GZIP, figures.ZSTD, TARFILE, VERIFY_GZIP} <= names and PIGZ not in names
    assert (figures.TAR_ZSTD in names) == (shutil.which("zstd") is not None)
    assert all(one["wall"] > 0 and len(one["samples"]) == 1 for one in found["rows"])
    assert "pigz is not installed: 'tar | pigz' was not measured" in found["notes"]
    page = output.with_suffix(".md").read_text()
    assert "| not measured |" in page and r"tar \| pigz" in page
    assert page in capsys.readouterr().out
