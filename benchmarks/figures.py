"""The results: ratios with their targets, met or missed, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.contest import Row, groups

GZIP, ZSTD = "scriptorium, gzip", "scriptorium, zstd"
TARFILE, PIGZ, TAR_ZSTD = "Python tarfile w:gz", "tar | pigz", "tar | zstd -T0"
VERIFY_GZIP, VERIFY_ZSTD = "verify, gzip", "verify, zstd"
LARGE_DIRECT, LARGE_FLOW = "large library, called directly", "large library, as a flow run"
SMALL_DIRECT, SMALL_FLOW = "small library, called directly", "small library, as a flow run"
AGAIN_DIRECT, AGAIN_FLOW = "small library, directly, again in the same process", "small library, flow run, again in it"
PACKING, VERIFYING, SNAPSHOT, FLOWS, INSPECTING = "packing", "verifying", "Kuzu snapshot", "create", "inspecting"
EMPTY = "a Typer program that does nothing, to compare"
MEMORY = 400 << 20
ANSWER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure. ``value`` is ``None`` when a tool was missing; ``least``/``most`` where there is a target."""

    what: str
    value: float | None
    unit: str = "x"
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        if self.value is None or (self.least is None and self.most is None):
            return None
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    @property
    def target(self) -> str:
        if self.least is not None:
            return f"at least {self.least:g}{self.unit}"
        return f"at most {self.most:g}{self.unit}" if self.most is not None else ""

    @property
    def verdict(self) -> str:
        if self.met is None:
            return "not measured" if self.value is None else ""
        return "met" if self.met else "MISSED"


def ratios(rows: Sequence[Row]) -> list[Ratio]:
    """Every figure with a target, of the medians of wall time; CPU beside it, which depends less on other load."""
    found = {row.name: row for row in rows}

    def wall(one: str, other: str) -> float | None:
        return found[one].wall / found[other].wall if one in found and other in found else None

    def cpu(one: str, other: str) -> float | None:
        return found[one].cpu / found[other].cpu if one in found and other in found else None

    def added(one: str, other: str) -> float | None:
        return found[one].wall - found[other].wall if one in found and other in found else None

    ours = [row for row in rows if row.name in (GZIP, ZSTD, VERIFY_GZIP, VERIFY_ZSTD)]
    peak = max(row.peak for row in ours) / (1 << 20) if ours else None
    asked = [row for row in rows if row.group == INSPECTING and row.name != EMPTY]
    return [
        Ratio("throughput with gzip over Python's tarfile with gzip", wall(TARFILE, GZIP), least=4.0),
        Ratio("… of CPU", cpu(TARFILE, GZIP)),
        Ratio("throughput with zstd over Python's tarfile with gzip", wall(TARFILE, ZSTD), least=4.0),
        Ratio("time with gzip over tar | pigz", wall(GZIP, PIGZ), most=0.35),
        Ratio("… of CPU", cpu(GZIP, PIGZ)),
        Ratio("time with zstd over tar | zstd -T0", wall(ZSTD, TAR_ZSTD), most=1.15),
        Ratio("… of CPU", cpu(ZSTD, TAR_ZSTD)),
        Ratio("time to verify over time to pack, gzip", wall(VERIFY_GZIP, GZIP), most=1.0),
        Ratio("time to verify over time to pack, zstd", wall(VERIFY_ZSTD, ZSTD), most=1.0),
        Ratio("peak memory of packing and verifying", peak, " MiB", most=MEMORY / (1 << 20)),
        Ratio("what the flow adds, large library", added(LARGE_FLOW, LARGE_DIRECT), " s"),
        Ratio("what the flow adds, small library", added(SMALL_FLOW, SMALL_DIRECT), " s"),
        Ratio("what the flow adds once Prefect is up, small library", added(AGAIN_FLOW, AGAIN_DIRECT), " s"),
        *(Ratio(f"{row.name} answers in", row.wall, " s", most=ANSWER_SECONDS) for row in asked),
    ]  # fmt: skip


def document(
    rows: Sequence[Row], about: Mapping[str, object], notes: Sequence[str], figures: Sequence[Ratio] | None = None
) -> dict[str, object]:
    """Everything as JSON: sizes in bytes, times in seconds, every sample. ``figures``: by default ``ratios``."""
    return {
        **about,
        "rows": [
            {
                "name": row.name,
                "group": row.group,
                "wall": row.wall,
                "cpu": row.cpu,
                "peak": row.peak,
                "size": row.size,
                "reads": row.reads,
                "samples": [asdict(sample) for sample in row.samples],
            }
            for row in rows
        ],
        "figures": [
            {**asdict(one), "target": one.target, "met": one.met}
            for one in (ratios(rows) if figures is None else figures)
        ],
        "notes": list(notes),
    }


def markdown(
    rows: Sequence[Row], about: Mapping[str, object], notes: Sequence[str], figures: Sequence[Ratio] | None = None
) -> str:
    """The same as a page to read."""
    lines = ["# Measured", ""]
    for title in ("input", "machine", "versions"):
        values = about[title]
        assert isinstance(values, Mapping)
        lines.append(f"- {title}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    lines += [f"- rounds: {about['rounds']}, medians; peak is the largest process", ""]
    lines += ["| figure | value | target | |", "|---|---:|---|---|"]
    for one in ratios(rows) if figures is None else figures:
        value = "" if one.value is None else f"{one.value:.2f}{one.unit}"
        lines.append(f"| {_cell(one.what)} | {value} | {one.target} | {one.verdict} |")
    for title, members in groups(rows):
        lines += ["", f"## {title}", "", "| | wall s | min–max | CPU s | MiB/s | peak MiB | output MiB |"]
        lines.append("|---|---:|---:|---:|---:|---:|---:|")
        lines += [_line(row) for row in members]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _line(row: Row) -> str:
    walls = [sample.wall for sample in row.samples]
    speed = f"{row.throughput:.0f}" if row.reads else ""
    size = f"{row.size / (1 << 20):.0f}" if row.size else ""
    return (
        f"| {_cell(row.name)} | {row.wall:.2f} | {min(walls):.2f}–{max(walls):.2f} "
        f"| {row.cpu:.2f} | {speed} | {row.peak / (1 << 20):.0f} | {size} |"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
