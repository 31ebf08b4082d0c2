"""The benchmark: ``python -m benchmarks.backup``. Progress goes to standard error, the result to standard output.

All tools pack the same bytes (a tree and a Kuzu database) from a warm page cache, write to the same disk and make their
output durable before they end. Only the results are left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.contest import ROOT, Contestant, Row, hold
from benchmarks.figures import (
    AGAIN_DIRECT,
    AGAIN_FLOW,
    EMPTY,
    FLOWS,
    GZIP,
    INSPECTING,
    LARGE_DIRECT,
    LARGE_FLOW,
    PACKING,
    PIGZ,
    SMALL_DIRECT,
    SMALL_FLOW,
    SNAPSHOT,
    TAR_ZSTD,
    TARFILE,
    VERIFY_GZIP,
    VERIFY_ZSTD,
    VERIFYING,
    ZSTD,
    document,
    markdown,
)
from benchmarks.work import work
from scriptorium import process
from scriptorium.errors import ScriptoriumError

_RESULTS = Path(__file__).with_name("results")
_DATABASE = "graph.db"
_NOTES = (
    "scriptorium also hashes every file, writes a manifest, and syncs file and folder; the others sync their file",
    "pigz compresses at its level 6, tarfile at 9, zstd at 3; scriptorium at 1 (igzip) and 2 (zstd): compare the sizes",
    "CPU is user and system time of the process and its children; peak has a floor of about 8 MiB, the meter's own",
    "a flow run is `scriptorium create`: it loads Prefect and starts its embedded server, as under cron with no server",
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backup", description="Side by side with other tools.")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--kuzu-megabytes", type=float, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backups", type=int, default=1000, help="in the store that is listed")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="where a working folder is made")
    parser.add_argument("--output", type=Path, default=_RESULTS / "backup.json", help="a table (.md) goes beside it")
    parser.add_argument("--only", choices=[PACKING, SNAPSHOT, FLOWS, INSPECTING], action="append")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the working folder is removed
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        process.no_child_outlives(),
        tempfile.TemporaryDirectory(dir=options.folder.absolute(), prefix="run-") as folder,
    ):
        bench = Bench(Path(folder), options)
        rows = bench.run(options.only or [PACKING, SNAPSHOT, FLOWS, INSPECTING])
    bench.notes += [f"FAILED: {failure.splitlines()[0]}" for failure in bench.failures]
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": options.rounds,
        "input": bench.input,
        "machine": bench.machine,
        "versions": machine.versions(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document(rows, about, bench.notes), indent=1, ensure_ascii=False) + "\n")
    page = markdown(rows, about, bench.notes)
    options.output.with_suffix(".md").write_text(page)
    _show(page)
    return 1 if bench.failures else 0


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _show(page: str) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(page))
    else:
        print(page)


class Bench:
    """One run of the benchmark in its own folder."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._input = folder / "input"
        self.notes = [*_NOTES, *filter(None, [machine.busy()])]
        self.failures: list[str] = []
        self.machine = machine.description(folder)
        self.input = self._build()

    def run(self, parts: Sequence[str]) -> list[Row]:
        rounds, rows = self._options.rounds, []
        if PACKING in parts:
            rows += hold([*self._others(), *self._ours()], rounds, _report, self.failures)
            for left in self._folder.glob("out.*"):
                left.unlink() if left.is_file() else shutil.rmtree(left)
        if SNAPSHOT in parts:
            rows += hold(self._snapshots(), rounds, _report, self.failures)
        if FLOWS in parts:
            rows += hold(self._flows(), rounds, _report, self.failures)
        if INSPECTING in parts:
            rows += hold(self._questions(), rounds * 3, _report, self.failures)
        return rows

    def _build(self) -> dict[str, object]:
        options = self._options
        _report(f"building {options.files} files of {options.megabytes} MiB and a Kuzu database …")
        size = ["--files", str(options.files), "--megabytes", str(options.megabytes)]
        process.run([sys.executable, "-m", "benchmarks.tree", str(self._input / "tree"), *size], cwd=ROOT)
        process.run(work("kuzu-build", self._input / _DATABASE, options.kuzu_megabytes, 1), cwd=ROOT)
        files = [path for path in self._input.rglob("*") if path.is_file()]
        self._bytes = sum(len(path.read_bytes()) for path in files)  # this also warms the page cache
        database = (self._input / _DATABASE).stat().st_size
        return {"files": len(files), "bytes": self._bytes, "of them Kuzu": database, "prose in the tree": "about half"}

    # --- packing ------------------------------------------------------------------------------------------------------

    def _others(self) -> list[Contestant]:
        found = []
        for name, tool, ending in (
            (PIGZ, "pigz", "pigz.tar.gz"),
            (f"{PIGZ} -1", "pigz -1", "pigz1.tar.gz"),
            (TAR_ZSTD, "zstd -T0 -q -c", "tar.zst"),
        ):
            if shutil.which(tool.split()[0]) is None or shutil.which("tar") is None:
                self.notes.append(f"{tool.split()[0]} is not installed: '{name}' was not measured")
                continue
            output = self._folder / f"out.{ending}"
            line = f"set -o pipefail; tar -C {self._input} -cf - . | {tool} > {output} && sync {output}"
            found.append(Contestant(name, PACKING, ["bash", "-c", line], output, self._bytes))
        output = self._folder / "out.tarfile.tar.gz"
        found.append(Contestant(TARFILE, PACKING, work("tarfile", self._input, output), output, self._bytes))
        return found

    def _ours(self) -> list[Contestant]:
        found = []
        for name, verify, word, ending in ((GZIP, VERIFY_GZIP, "gzip", "gz"), (ZSTD, VERIFY_ZSTD, "zstd", "zst")):
            output = self._folder / f"out.ours.tar.{ending}"
            packing = work("pack", self._input, output, word)
            found.append(Contestant(name, PACKING, packing, output, self._bytes))
            found.append(Contestant(verify, VERIFYING, work("verify", output), None, self._bytes))
        return found

    # --- Kuzu ---------------------------------------------------------------------------------------------------------

    def _snapshots(self) -> list[Contestant]:
        database, size = self._input / _DATABASE, (self._input / _DATABASE).stat().st_size
        copy = self._folder / "copy.db"
        line = f"cp --reflink=never {database} {copy} && sync {copy}"
        return [
            Contestant("cp and sync, to compare", SNAPSHOT, ["bash", "-c", line], None, size),
            Contestant("open, count, fingerprint", SNAPSHOT, work("kuzu-read", copy), None, size),
            Contestant(
                "open, count, fingerprint, export",
                SNAPSHOT,
                work("kuzu-read", copy, self._folder / "export"),
                None,
                size,
            ),
            Contestant(
                "the whole snapshot: copy, open, fingerprint, export",
                SNAPSHOT,
                work("kuzu-capture", database, self._folder / "stage"),
                None,
                size,
            ),
        ]

    # --- the flow -----------------------------------------------------------------------------------------------------

    def _flows(self) -> list[Contestant]:
        small = self._folder / "small"
        process.run(
            [sys.executable, "-m", "benchmarks.tree", str(small / "tree"), "--files", "100", "--megabytes", "2"],
            cwd=ROOT,
        )
        process.run(work("kuzu-build", small / _DATABASE, 6, 1), cwd=ROOT)
        times, prefect = self._folder / "times.json", self._prefect
        contestants = []
        for folder, direct, flow in (
            (small, SMALL_DIRECT, SMALL_FLOW),
            (self._input, LARGE_DIRECT, LARGE_FLOW),
        ):
            place = self._library(folder)
            settings, reads = place / "scriptorium.toml", self._bytes if folder == self._input else 0
            tidy = _Remove(place / "backups")
            contestants += [
                Contestant(direct, FLOWS, work("create", settings), None, reads, after=tidy),
                Contestant(flow, FLOWS, [*_cli(settings), "create"], None, reads, prefect, after=tidy),
            ]
            if folder == small:
                again = work("create-again", settings, times), work("flow-again", settings, times)
                contestants += [
                    Contestant(AGAIN_DIRECT, FLOWS, again[0], timed=times, after=tidy),
                    Contestant(AGAIN_FLOW, FLOWS, again[1], env=prefect, timed=times, after=tidy),
                ]
        with contextlib.suppress(ScriptoriumError):  # it will fail again in a measured run, where it is reported
            contestants[1].run()  # Prefect creates its database only once; this is not part of a run
        return contestants

    @property
    def _prefect(self) -> dict[str, str]:
        return {"PREFECT_HOME": str(self._folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}

    def _library(self, folder: Path) -> Path:
        """Settings of a library made of ``folder``; returns the place where its backups go."""
        place = self._folder / f"library-{folder.name}"
        place.mkdir()
        sources = [
            {"name": "graph", "kind": "kuzu", "path": str(folder / _DATABASE)},
            {"name": "files", "kind": "files", "path": str(folder / "tree")},
        ]
        lines = ["[libraries.bench]", "sources = ["]
        lines += [
            "  { " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in one.items()) + " }," for one in sources
        ]
        lines += ["]", "[stores.local]", 'kind = "local"', f"path = {json.dumps(str(place / 'backups'))}"]
        (place / "scriptorium.toml").write_text("\n".join(lines) + "\n")
        return place

    # --- inspecting ---------------------------------------------------------------------------------------------------

    def _questions(self) -> list[Contestant]:
        tiny = self._folder / "tiny"
        (tiny / "tree").mkdir(parents=True)
        (tiny / "tree" / "page").write_text("a page\n")
        process.run(work("kuzu-build", tiny / _DATABASE, 6, 1), cwd=ROOT)
        place = self._library(tiny)
        settings, count = place / "scriptorium.toml", self._options.backups
        _report(f"filling a store with {count} backups …")
        process.run(work("create", settings), cwd=ROOT)
        process.run([sys.executable, "-m", "benchmarks.many", str(settings), str(count)], cwd=ROOT)
        process.run([*_cli(settings), "list"])
        cli = _cli(settings)
        listed = f", {count} backups"
        asked = {
            f"list{listed}": ["list"],
            f"list --json{listed}": ["list", "--json"],
            f"show latest{listed}": ["show", "latest"],
            f"stats{listed}": ["stats"],
            "--help": ["--help"],
            "create --help": ["create", "--help"],
        }
        empty = Contestant(EMPTY, INSPECTING, [sys.executable, "-c", _EMPTY])
        return [
            empty,
            *(Contestant(f"scriptorium {name}", INSPECTING, [*cli, *words]) for name, words in asked.items()),
        ]


# What any command pays that is made of the same two libraries: a settings model, a command with one option.
_EMPTY = """
import typer
from pydantic import BaseModel
class Settings(BaseModel):
    number: int = 1
def command(number: int = Settings().number): ...
typer.run(command)
"""


def _cli(settings: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("scriptorium")), "--config", str(settings)]


class _Remove:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
