"""Contestants and rounds: every tool in its own process, one after another, round by round."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium import process
from scriptorium.errors import ScriptoriumError, ToolFailed

ROOT = Path(__file__).parent.parent
_METER = Path(__file__).with_name("meter.py")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: wall and CPU seconds, peak memory and size of the output in bytes."""

    wall: float
    cpu: float
    peak: int
    size: int


@dataclass(frozen=True, slots=True)
class Contestant:
    """A command to be measured. ``reads``: bytes that it must read, for the throughput. ``timed``: a file into
    which the command itself writes the seconds of the part that counts. ``after`` is not measured."""

    name: str
    group: str
    argv: Sequence[str]
    output: Path | None = None
    reads: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    timed: Path | None = None
    after: Callable[[], None] | None = None

    def run(self) -> Sample:
        meter = [sys.executable, "-I", "-S", str(_METER), *self.argv]
        outcome = process.run(meter, env=self.env, cwd=ROOT, check=False)
        try:
            cost = json.loads(outcome.stdout)
        except ValueError:
            raise process.failure([self.name], outcome.status, outcome.stderr) from None
        if cost["status"] != 0:
            raise ToolFailed(f"'{self.name}' ended with status {cost['status']}", hint=outcome.stderr[-2000:])
        if self.timed:
            cost |= json.loads(self.timed.read_text())
        size = self.output.stat().st_size if self.output else 0
        if self.after:
            self.after()
        return Sample(cost["wall"], cost["cpu"], cost["peak"], size)


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one contestant."""

    name: str
    group: str
    reads: int
    samples: tuple[Sample, ...]

    @property
    def wall(self) -> float:
        return statistics.median(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)

    @property
    def peak(self) -> int:
        return max(sample.peak for sample in self.samples)

    @property
    def size(self) -> int:
        return self.samples[-1].size

    @property
    def throughput(self) -> float:
        """MiB a second."""
        return self.reads / self.wall / (1 << 20)


def hold(contestants: Sequence[Contestant], rounds: int, say: Callable[[str], None], failures: list[str]) -> list[Row]:
    """Run all of them once in each round, in the given order (verifying needs an earlier archive).

    One that fails is left out of later rounds and named in ``failures``: the results of the others are kept.
    """
    samples: dict[str, list[Sample]] = {one.name: [] for one in contestants}
    failed: set[str] = set()
    for number in range(1, rounds + 1):
        for one in contestants:
            if one.name in failed:
                continue
            try:
                sample = one.run()
            except ScriptoriumError as error:
                failed.add(one.name)
                failures.append(f"{error}: {error.hint}" if error.hint else str(error))
                say(f"round {number}/{rounds}  {failures[-1]}")
                continue
            samples[one.name].append(sample)
            say(f"round {number}/{rounds}  {one.name}: {sample.wall:.2f} s, {sample.cpu:.2f} s CPU")
    whole = [one for one in contestants if one.name not in failed]
    return [Row(one.name, one.group, one.reads, tuple(samples[one.name])) for one in whole]


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows by group, in order."""
    for name in dict.fromkeys(row.group for row in rows):
        yield name, [row for row in rows if row.group == name]
