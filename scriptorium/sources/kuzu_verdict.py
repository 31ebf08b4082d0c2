"""Asking the reader child about a database, and what its answer, or its crash, means."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from scriptorium import process
from scriptorium.errors import ToolMissing, ToolStalled
from scriptorium.model import Part, Rows, TableFacts
from scriptorium.sources import kuzu_layout

_POOLS = (256 << 20, 2 << 30)  # bytes of Kuzu's buffer pool: the second is for what does not fit into the first
_SECONDS_AT_LEAST = 120.0
_SLOWEST = 2 << 20  # bytes a second; a reader slower than this hangs


class Unreadable(Exception):
    """The database cannot be opened and read whole; the message says how it showed."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a database holds, and why its logical export is missing where it is."""

    engine_version: str
    tables: dict[str, TableFacts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    exported: bool = False
    answers: dict[str, Rows] = field(default_factory=dict)


def read(
    database: Path,
    *,
    engine: Path | None,
    read_only: bool,
    export: Path | None = None,
    statements: Mapping[str, str] | None = None,
) -> Facts:
    """Open the database in a child, count and fingerprint its tables, put the ``statements`` to it, export it to the
    new folder ``export``. A statement that the database does not understand has no answer.

    Opening it for writing replays its WAL and leaves none. Raises ``Unreadable`` and ``ToolMissing``.
    """
    answers = _ask("facts", database, engine=engine, read_only=read_only, export=export, statements=statements)
    first = answers[0]
    tables = {name: TableFacts(int(row["rows"]), row["fingerprint"]) for name, row in first["tables"].items()}
    exported = next((answer["export"] for answer in answers if "export" in answer), "the reader crashed")
    warnings: tuple[str, ...] = ()
    if export is not None and exported is not True:
        shutil.rmtree(export, ignore_errors=True)
        warnings = (f"no logical export of {database.name}: {exported}",)
    elif not answers[-1].get("closed"):
        raise Unreadable("the reader crashed while it closed the database")
    said = {
        answer["statement"]: tuple(tuple(row) for row in answer["rows"])
        for answer in answers
        if "statement" in answer and "rows" in answer
    }
    return Facts(first["engine"], tables, warnings, exported is True, said)


def engine_version(engine: Path | None) -> str:
    """The version of the kuzu package that would read; ``ToolMissing`` when there is none. Loads nothing."""
    places = [str(engine)] if engine else None
    found = (
        list(metadata.distributions(name="kuzu", path=places)) if places else list(metadata.distributions(name="kuzu"))
    )
    if not found:
        raise ToolMissing("the kuzu package is missing", on=str(engine or sys.prefix), hint="pip install kuzu")
    return found[0].version


def require_reading(part: Part, engine: str, *, rebuild: bool) -> str:
    """Whether an engine of this version reads the part's raw copy, or makes it anew from its export (``rebuild``), by
    the manifest alone. ``ToolMissing`` where it is known not to."""
    saved = part.engine_version
    if saved is None:
        return f"kuzu {engine}; which one saved it is not known"
    if rebuild:
        return f"kuzu {engine} makes it anew from the export of {saved}"
    if kuzu_layout.same_storage(engine, saved) is False:
        hint = f'pip install --target DIR kuzu=={saved}, then engine = "DIR" in this source\'s settings'
        raise ToolMissing(
            f"the database was saved by kuzu {saved}, whose storage kuzu {engine} does not read",
            on=part.source,
            hint=f"{hint}; or make it anew from its export: --from-export" if part.export else hint,
        )
    return f"kuzu {engine}, saved by {saved}"


def build(export: Path, database: Path, *, engine: Path | None) -> None:
    """Make the new database ``database`` from a logical export. Raises ``Unreadable`` and ``ToolMissing``."""
    if not _ask("import", database, engine=engine, read_only=False, export=export)[-1].get("closed"):
        raise Unreadable("the reader crashed while it closed the database")


def _ask(
    do: str,
    database: Path,
    *,
    engine: Path | None,
    read_only: bool,
    export: Path | None,
    statements: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    version = None
    if do == "facts":
        version = kuzu_layout.storage_version(kuzu_layout.find(database))
    size = sum(path.stat().st_size for path in (export or database).rglob("*")) if do == "import" else _size(database)
    answers: list[dict[str, Any]] = []
    for pool in _POOLS:
        request = {
            "do": do,
            "database": str(database),
            "engine": str(engine) if engine else None,
            "pool": pool,
            "storage_version": version,
            "read_only": read_only,
            "statements": dict(statements or {}),
            "export": str(export) if export else None,
        }
        answers = _run(request, seconds=_SECONDS_AT_LEAST + size / _SLOWEST)
        first = answers[0]
        if first["verdict"] == "missing":
            raise ToolMissing("the kuzu package is missing", on=str(engine or sys.prefix), hint="pip install kuzu")
        if first["verdict"] == "version":
            assert version is not None
            raise kuzu_layout.wrong_engine(database, version, first["engine"], first["reads"])
        if first["verdict"] == "ok":
            return answers
        if "buffer pool" not in first["detail"].lower():
            break
    raise Unreadable(answers[0]["detail"])


def _run(request: Mapping[str, object], *, seconds: float) -> list[dict[str, Any]]:
    argv = [sys.executable, "-P", str(Path(__file__).with_name("kuzu_reader.py")), json.dumps(request)]
    try:
        outcome = process.run(argv, timeout=seconds, check=False)
    except ToolStalled:
        raise Unreadable(f"reading it did not end within {seconds:.0f} s") from None
    answers: list[dict[str, Any]] = []
    for line in outcome.stdout.splitlines():
        with contextlib.suppress(ValueError):
            answers.append(json.loads(line))
    if answers and "verdict" in answers[0]:
        return answers
    if outcome.status < 0:
        raise Unreadable(f"it crashes the reader ({signal.Signals(-outcome.status).name})")
    raise process.failure(argv[:3], outcome.status, outcome.stderr)


def _size(database: Path) -> int:
    return kuzu_layout.find(database).size()


def dump(facts: Facts) -> str:
    tables = {name: [table.rows, table.fingerprint] for name, table in facts.tables.items()}
    return json.dumps([facts.engine_version, tables, facts.warnings, facts.exported, facts.answers])


def load(text: str) -> Facts:
    engine, tables, warnings, exported, answers = json.loads(text)
    return Facts(
        engine,
        {name: TableFacts(*row) for name, row in tables.items()},
        tuple(warnings),
        exported,
        {name: tuple(tuple(row) for row in rows) for name, rows in answers.items()},
    )
