"""The contents of a Kuzu database, which a child reads, and the engine that reads them.

The files are not changed: a database is opened read-only, which replays its WAL in memory. If the engine cannot do that
(an interrupted checkpoint, the folders of Kuzu 0.10), a copy is opened and thrown away; each attempt gets a new copy.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from scriptorium.errors import ToolMissing
from scriptorium.fs import reflink
from scriptorium.model import Part, Rows, TableFingerprint
from scriptorium.sources.kuzu import child, memory
from scriptorium.sources.kuzu import layout as kuzu_layout
from scriptorium.sources.kuzu.child import Answers, Opened, Unread, Unreadable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The fingerprints of a database; which are missing and why (as in ``Part``); why the logical export is missing,
    if it is."""

    engine_version: str
    tables: dict[str, TableFingerprint] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    exported: bool = False
    answers: dict[str, Rows] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    export_lacks: tuple[str, ...] = ()


def read(
    database: Path,
    *,
    engine: Path | None,
    share: float = memory.SHARE,
    statements: Mapping[str, str] | None = None,
) -> Fingerprints:
    """Open the database in a child, count and fingerprint its tables, run the ``statements``. A statement that the
    database does not understand has no answer.

    The database and its WAL are not changed. ``share``: of the memory that this process may use. A table that cannot be
    read because memory is short, or whose name the engine's own statements cannot express, is among the ``missing``.
    Raises ``Unreadable``, ``Unread``, ``ToolMissing``.
    """
    request: dict[str, object] = {"do": "fingerprints", "statements": dict(statements or {})}
    began = time.monotonic()
    answers = _fingerprints(database, request, engine, share)
    first = answers[0]
    tables = {name: TableFingerprint(int(row["rows"]), row["fingerprint"]) for name, row in first["tables"].items()}
    missing = {
        name: child.needed(share) if child.scarce(reason) else reason for name, reason in first["missing"].items()
    }
    took = time.monotonic() - began
    log.info(
        "%s: kuzu %s read %d tables in %.1f s, %d not", database.name, first["engine"], len(tables), took, len(missing)
    )
    answered = {
        answer["statement"]: tuple(tuple(row) for row in answer["rows"])
        for answer in answers
        if "statement" in answer and "rows" in answer
    }
    unanswered = [answer["statement"] for answer in answers if child.scarce(answer.get("trouble", ""))]
    warnings = tuple(
        f"nobody answered what the library must fulfil ({name}): {child.needed(share)}" for name in unanswered
    )
    return Fingerprints(first["engine"], tables, warnings, answers=answered, missing=missing)


def unread(hindrance: Unread, engine: Path | None) -> Fingerprints:
    """The fingerprints of a database that could not be read: none, and why. ``ToolMissing`` without an engine."""
    return Fingerprints(
        engine_version(engine),
        warnings=("no logical export: the database could not be read",),
        missing={"": str(hindrance)},
    )


def _fingerprints(database: Path, request: Mapping[str, object], engine: Path | None, share: float) -> Answers:
    layout = kuzu_layout.find(database)
    version = kuzu_layout.storage_version(layout)
    wish = {**request, "engine": str(engine) if engine else None, "storage_version": version}

    def opened(*, writing: bool) -> Answers:
        place: Opened = (lambda: thrown_away(layout)) if writing else (lambda: contextlib.nullcontext(layout.path))
        return child.ask({**wish, "read_only": not writing}, place, bytes=layout.size(), share=share)

    try:
        answers = opened(writing=layout.folder)
    except Unreadable as verdict:
        if not verdict.needs_writing:
            raise
        answers = opened(writing=True)
    if answers[0]["verdict"] == "version":
        assert version is not None
        raise kuzu_layout.wrong_engine(database, version, answers[0]["engine"], answers[0]["reads"])
    return answers


@contextlib.contextmanager
def thrown_away(layout: kuzu_layout.Layout) -> Iterator[Path]:
    """A new copy of the database; it exists as long as the block lasts."""
    scratch = layout.path.with_name(f".{layout.path.name}.tried")
    shutil.rmtree(scratch, ignore_errors=True)
    copy = scratch / layout.path.name
    try:
        (copy if layout.folder else scratch).mkdir(parents=True, mode=0o700)
        for path in layout.files():
            with reflink.opened(path) as file:
                target = (copy if layout.folder else scratch) / path.name
                reflink.copy(file, target, path.stat().st_size, lambda _: None)
        yield copy
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def engine_version(engine: Path | None) -> str:
    """The version of the kuzu package that would read; ``ToolMissing`` if there is none. Loads nothing."""
    places = [str(engine)] if engine else None
    found = (
        list(metadata.distributions(name="kuzu", path=places)) if places else list(metadata.distributions(name="kuzu"))
    )
    if not found:
        raise ToolMissing("the kuzu package is missing", on=str(engine or sys.prefix), hint="pip install kuzu")
    return found[0].version


def require_reading(part: Part, engine: str, *, rebuild: bool) -> str:
    """Whether an engine of this version reads the part's raw copy, or can import its export (``rebuild``), by the
    manifest alone. ``ToolMissing`` if it certainly cannot."""
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


def dump(found: Fingerprints) -> str:
    tables = {name: [table.rows, table.fingerprint] for name, table in found.tables.items()}
    return json.dumps(
        [
            found.engine_version,
            tables,
            found.warnings,
            found.exported,
            found.answers,
            found.missing,
            found.export_lacks,
        ]
    )


def load(text: str) -> Fingerprints:
    engine, tables, warnings, exported, answers, missing, lacks = json.loads(text)
    return Fingerprints(
        engine,
        {name: TableFingerprint(*row) for name, row in tables.items()},
        tuple(warnings),
        exported,
        {name: tuple(tuple(row) for row in rows) for name, rows in answers.items()},
        missing,
        tuple(lacks),
    )


__all__ = [
    "Fingerprints",
    "Unread",
    "Unreadable",
    "dump",
    "engine_version",
    "load",
    "read",
    "require_reading",
    "thrown_away",
    "unread",
]
