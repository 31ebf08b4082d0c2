"""The form of every result: a document for programs; a title, fields, tables and sentences for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scriptorium import wording

Document = dict[str, object]
Row = Mapping[str, str | tuple[str, ...]]  # a tuple is a cell of several lines
_SENTENCES = 20


@dataclass(frozen=True, slots=True)
class Fields:
    """Names and their values, one line each. ``detail``: shown on a page, not in a terminal."""

    pairs: Mapping[str, str]
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows whose keys are the columns. ``right``: columns of numbers. ``spare``: columns that a narrow terminal leaves
    out, the first ones first. ``detail``: shown on a page, not in a terminal."""

    rows: Sequence[Row]
    right: Sequence[str] = ()
    spare: Sequence[str] = ()
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One result. ``document`` is the JSON of it; the rest is for people.

    ``kind`` and ``library`` identify the report; a newer one with the same two replaces it. ``warnings`` must reach a
    user in any case; ``notes`` are further sentences. ``verdict``: the result in one sentence. ``good``: the result is
    what it should be; if not, a command ends with an error in place of the verdict.
    """

    kind: str
    library: str
    title: str
    document: object = None
    blocks: Sequence[Fields | Table] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    verdict: str = ""
    good: bool = True


def markdown(report: Report) -> str:
    """The report as a page in Markdown. Text from outside (names, messages) is escaped."""
    shown = wording.markdown
    parts = [[f"# {shown(report.title)}"]]
    if report.verdict:
        parts.append([f"- **verdict**: {shown(report.verdict)}"])
    for block in report.blocks:
        if isinstance(block, Fields):
            parts.append([f"- **{shown(name)}**: {shown(value)}" for name, value in block.pairs.items()])
        elif block.rows:
            parts.append(_table(block))
    for name, sentences in (("warning", report.warnings), ("note", report.notes)):
        parts.append([f"- **{name}**: {shown(sentence)}" for sentence in sentences[:_SENTENCES]])
        if len(sentences) > _SENTENCES:
            parts[-1].append(f"- and {len(sentences) - _SENTENCES:,} more")
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _table(table: Table) -> list[str]:
    columns = list(table.rows[0])
    lines = [f"| {' | '.join(map(wording.markdown, columns))} |"]
    lines.append(f"|{'|'.join('---:' if column in table.right else '---' for column in columns)}|")
    return lines + [f"| {' | '.join(_cell(row.get(column, '')) for column in columns)} |" for row in table.rows]


def _cell(value: str | tuple[str, ...]) -> str:
    return wording.markdown(value if isinstance(value, str) else "; ".join(value))
