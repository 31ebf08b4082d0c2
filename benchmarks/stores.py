"""The stores side by side with the bare tools: ``python -m benchmarks.stores``.

A tree of 10,000 files and 3 GB: the first backup, one of the unchanged tree, one after 1% of the files changed, and a
restore into an empty folder, each by the tool alone and by a store that uses it. "scriptorium" is the whole recipe
without Prefect: every file is hashed, and what is new is read back and compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from benchmarks import machine
from benchmarks.contest import ROOT, Contestant, Row, hold
from benchmarks.figures import Ratio, document, markdown
from benchmarks.work import work
from scriptorium import process
from scriptorium.stores import KINDS

_RESULTS = Path(__file__).with_name("results") / "stores.json"
FIRST, UNCHANGED, CHANGED, RESTORE, COPIES = "first", "unchanged", "1% changed", "restore", "three copies"
PHASES = (FIRST, UNCHANGED, CHANGED, RESTORE)
OURS = "scriptorium, {}"
_PASSWORD = "benchmark"
_MEMORY = 400.0
_NOTES = (
    "scriptorium hashes every file, reads back and compares what is new, and syncs",
    "each bare tool is followed by `sync -f`",
    "CPU is user and system time of the process and its children",
    "the target of time: at most 1.05x of the bare tool or 2 s more; for the unchanged tree 1.1x or 1 s",
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, how it is used alone (shell lines with ``{tree}``, ``{place}``, ``{back}``), and its store."""

    program: str
    kind: str
    make: str
    first: str
    again: str
    restore: str
    settings: str

    @property
    def missing(self) -> str:
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        return "" if self.kind in KINDS else f"there is no store of the kind {self.kind}"


TOOLS: Mapping[str, Tool] = {
    "tar | zstd": Tool(
        "zstd",
        "local",
        "mkdir {place}",
        "tar -C {tree} -cf - . | zstd -T0 -q -c > {place}/$(date +%s%N).tar.zst",
        "tar -C {tree} -cf - . | zstd -T0 -q -c > {place}/$(date +%s%N).tar.zst",
        "zstd -dc $(ls {place}/*.zst | tail -1) | tar -C {back} -xf -",
        'path = "{place}"',
    ),
    "restic": Tool(
        "restic",
        "restic",
        "restic init -q -r {place}",
        "restic -q -r {place} backup {tree}",
        "restic -q -r {place} backup {tree}",
        "restic -q -r {place} restore latest --target {back}",
        'repository = "{place}"\npassword_file = "{folder}/password"',
    ),
    "borg": Tool(
        "borg",
        "borg",
        "borg init -e repokey-blake2 {place}",
        "borg create {place}::{{now:%H%M%S%f}} {tree}",
        "borg create {place}::{{now:%H%M%S%f}} {tree}",
        "cd {back} && borg extract {place}::$(borg list --short --last 1 {place})",
        'repository = "{place}"\npassword_file = "{folder}/password"',
    ),
    "rsync": Tool(
        "rsync",
        "rsync",
        "mkdir {place}",
        "rsync -aHAX {tree}/ {place}/1/",
        "rsync -aHAX --link-dest=../1 {tree}/ {place}/$(date +%s%N)/",
        "rsync -aHAX $(ls -d {place}/* | tail -1)/ {back}/",
        'path = "{place}"',
    ),
    "rclone": Tool(
        "rclone",
        "rclone",
        "mkdir {place}",
        "rclone -q copy {tree} {place}/1",
        "rclone -q copy --copy-dest={place}/1 {tree} {place}/$(date +%s%N)",
        "rclone -q copy $(ls -d {place}/* | tail -1) {back}",
        'remote = ":local:{place}"',
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores", description="Stores and the bare tools.")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=3_000)
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="where a working folder is made")
    parser.add_argument("--output", type=Path, default=_RESULTS, help="a table (.md) goes beside it")
    parser.add_argument("--only", choices=[*TOOLS, COPIES], action="append")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the working folder is removed
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = options.only or [*TOOLS, COPIES]
    with (
        process.no_child_outlives(),
        tempfile.TemporaryDirectory(dir=options.folder.absolute(), prefix="run-") as folder,
    ):
        bench = Bench(Path(folder), options.files, options.megabytes)
        rows = bench.run(chosen)
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": 1,
        "input": {"files": options.files, "MiB": options.megabytes},
        "machine": bench.machine,
        "versions": machine.versions(),
    }
    notes = [*bench.notes, *(f"FAILED: {failure.splitlines()[0]}" for failure in bench.failures)]
    figures = ratios(rows)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(rows, about, notes, figures), indent=1, ensure_ascii=False)
    options.output.write_text(f"{text}\n")
    page = markdown(rows, about, notes, figures)
    options.output.with_suffix(".md").write_text(page)
    print(page)
    return 1 if bench.failures else 0


def ratios(rows: Sequence[Row]) -> list[Ratio]:
    """Each store against its tool, in every phase; three copies against the slowest alone; the largest memory."""
    found = {(row.group, row.name): row for row in rows}
    figures = []
    for tool in TOOLS:
        for phase in PHASES:
            bare, ours = found.get((phase, tool)), found.get((phase, OURS.format(tool)))
            if bare and ours:
                share, more = (1.1, 1.0) if phase == UNCHANGED else (1.05, 2.0)
                most = max(share, (bare.wall + more) / bare.wall)
                figures.append(Ratio(f"{phase}: scriptorium over {tool}", ours.wall / bare.wall, most=round(most, 2)))
                figures.append(Ratio("… of CPU", ours.cpu / bare.cpu if bare.cpu else None))
    copies = found.get((COPIES, COPIES))
    alone = [row.wall for (group, name), row in found.items() if group == COPIES and name != COPIES]
    if copies and alone:
        figures.append(
            Ratio("three copies from one reading over the slowest alone", copies.wall / max(alone), most=1.3)
        )
    ours = [row.peak for row in rows if row.name.startswith("scriptorium") or row.group == COPIES]
    if ours:
        figures.append(Ratio("peak memory of a store", max(ours) / (1 << 20), " MiB", most=_MEMORY))
    return figures


class Bench:
    """One run in its own folder."""

    def __init__(self, folder: Path, files: int, megabytes: int) -> None:
        self._folder, self._tree = folder, folder / "tree"
        self.machine = machine.description(folder)
        self.notes = [*_NOTES, *filter(None, [machine.busy()])]
        self.failures: list[str] = []
        (folder / "password").write_text(_PASSWORD)
        _report(f"building {files} files of {megabytes} MiB …")
        size = ["--files", str(files), "--megabytes", str(megabytes)]
        process.run([sys.executable, "-m", "benchmarks.tree", str(self._tree), *size], cwd=ROOT)
        self._bytes = sum(len(path.read_bytes()) for path in self._tree.rglob("*") if path.is_file())  # and warms

    def run(self, chosen: Sequence[str]) -> list[Row]:
        rows = []
        for name in (one for one in chosen if one != COPIES):
            if TOOLS[name].missing:
                self.notes.append(f"{name} was not measured: {TOOLS[name].missing}")
                continue
            rows += self._phases(name, TOOLS[name])
        if COPIES in chosen:
            rows += self._copies()
        return rows

    def _phases(self, name: str, tool: Tool) -> list[Row]:
        bare, ours = self._folder / f"bare-{tool.kind}", self._folder / f"ours-{tool.kind}"
        settings = self._settings(tool.kind, {"vault": (tool, ours)})
        words = {"tree": self._tree, "place": bare, "back": self._folder / "back-bare"}
        self._shell(tool.make.format(**words))
        rows = []
        for phase, line in ((FIRST, tool.first), (UNCHANGED, tool.again), (CHANGED, tool.again)):
            if phase == CHANGED:
                self._change()
            rows += self._hold(phase, name, f"{line.format(**words)} && sync -f {bare}", ["create", str(settings)])
        backs = [self._folder / "back-bare", self._folder / "back-ours"]
        for back in backs:
            back.mkdir()
        line = f"{tool.restore.format(**words)} && sync -f {backs[0]}"
        rows += self._hold(RESTORE, name, line, ["restore", str(settings), str(backs[1] / "here")])
        for left in (bare, ours, *backs, self._folder / f"work-{tool.kind}"):
            shutil.rmtree(left, ignore_errors=True)
        return rows

    def _hold(self, phase: str, name: str, line: str, words: Sequence[str]) -> list[Row]:
        bare = Contestant(name, phase, ["bash", "-c", f"set -o pipefail; {line}"], None, self._bytes, self._secret)
        ours = Contestant(OURS.format(name), phase, work(*words), None, self._bytes, self._secret)
        return hold([bare, ours], 1, _report, self.failures)

    def _copies(self) -> list[Row]:
        three = [name for name in ("tar | zstd", "restic", "rsync") if not TOOLS[name].missing]
        rows = []
        for name in three:
            where = {name.replace(" | ", "-"): (TOOLS[name], self._folder / f"alone-{TOOLS[name].kind}")}
            settings = self._settings(f"alone-{TOOLS[name].kind}", where)
            rows += hold([self._create(f"{name} alone", settings)], 1, _report, self.failures)
        where = {name.replace(" | ", "-"): (TOOLS[name], self._folder / f"three-{TOOLS[name].kind}") for name in three}
        settings = self._settings("three", where)
        return rows + hold([self._create(COPIES, settings)], 1, _report, self.failures)

    def _create(self, name: str, settings: Path) -> Contestant:
        return Contestant(name, COPIES, work("create", str(settings)), None, self._bytes, self._secret)

    def _settings(self, name: str, stores: Mapping[str, tuple[Tool, Path]]) -> Path:
        file = self._folder / f"{name}.toml"
        lines = [
            f'workspace = "{self._folder}/work-{name}"\ncompression = "zstd"\n[libraries.lib]',
            f'sources = [{{ name = "books", kind = "files", path = "{self._tree}" }}]',
        ]
        for store, (tool, place) in stores.items():
            text = tool.settings.format(place=place, folder=self._folder)
            lines.append(f'[stores.{store}]\nkind = "{tool.kind}"\n{text}')
        file.write_text("\n".join(lines) + "\n")
        return file

    @property
    def _secret(self) -> Mapping[str, str]:
        file = str(self._folder / "password")
        return {
            **os.environ,
            "RESTIC_PASSWORD_FILE": file,
            "BORG_PASSCOMMAND": f"cat {file}",
            "BORG_BASE_DIR": str(self._folder / "borg"),
            "RCLONE_CONFIG": "/dev/null",
        }

    def _shell(self, line: str) -> None:
        process.run(["bash", "-c", line], env=self._secret)

    def _change(self) -> None:
        """Give every hundredth file other contents."""
        chance = Random(7)
        for path in sorted(path for path in self._tree.rglob("*") if path.is_file())[::100]:
            path.write_bytes(chance.randbytes(path.stat().st_size))


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
