"""The logical export of a snapshot: it is made, tested by an import, and imported for a restore.

An export counts if a new database made from it holds the same rows: the same counts and fingerprints for each table.
Other differences are named. A backup may have no export, because of too little memory or space, or because of names
that the engine writes wrongly; the raw copy does not need one.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scriptorium import wording
from scriptorium.errors import UnsafeArchive
from scriptorium.fs.free_space import free_bytes, has_space
from scriptorium.model import TableFingerprint
from scriptorium.sources.kuzu import child, memory, reader
from scriptorium.sources.kuzu import layout as kuzu_layout
from scriptorium.sources.kuzu.child import Opened, Unread, Unreadable

log = logging.getLogger(__name__)

_PROGRAM = "builder.py"


@dataclass(frozen=True, slots=True)
class Made:
    """An export that was tested. ``lacks``: how a database made from it differs, by name. ``trouble``: why there is
    none."""

    exported: bool
    lacks: tuple[str, ...] = ()
    trouble: str = ""


def with_export(
    recorded: reader.Fingerprints, database: Path, export: Path, *, engine: Path | None, share: float
) -> reader.Fingerprints:
    """Add the export to the fingerprints of a database: it is made and tested. A warning says what it lacks."""
    began = time.monotonic()
    made = make(database, export, recorded, engine=engine, share=share)
    outcome = made.trouble or "imported and compared"
    log.info("%s: logical export after %.1f s: %s", database.name, time.monotonic() - began, outcome)
    warnings = recorded.warnings
    if not made.exported:
        warnings += (f"no logical export of {database.name}: {made.trouble}",)
    if made.lacks:
        warnings += (f"the logical export of {database.name} does not carry: {', '.join(made.lacks)}",)
    return replace(recorded, exported=made.exported, export_lacks=made.lacks, warnings=warnings)


def make(database: Path, export: Path, recorded: reader.Fingerprints, *, engine: Path | None, share: float) -> Made:
    """Export the database, which stays as it is, into the new folder ``export``, and test it by an import.

    ``recorded``: the fingerprints of the database. The folder exists afterwards only if the export counts.
    """
    if recorded.missing:
        names = ", ".join(sorted(recorded.missing)[:5])
        return Made(False, trouble=f"it could not be compared, since there are no fingerprints of {names}")
    layout = kuzu_layout.find(database)
    needed = 2 * layout.size()
    if not has_space(export.parent, needed):
        space = f"{wording.size(free_bytes(export.parent))} free, {wording.size(needed)} needed"
        return Made(False, trouble=f"no space to make and try it: {space}")
    scratch, exported = export.with_name(f"{export.name}.tried"), False
    try:
        saved = _exported(layout, export, engine, share)
        rebuilt = _imported(export, scratch / "new.db", layout.size(), engine, share)
        found = reader.read(scratch / "new.db", engine=engine, share=share)
        if trouble := _differs(recorded.tables, found):
            return Made(False, trouble=trouble)
        exported = True
    except (Unreadable, Unread, UnsafeArchive) as error:
        return Made(False, trouble=str(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not exported:
            shutil.rmtree(export, ignore_errors=True)
    return Made(True, tuple(_lacks(saved["catalog"], rebuilt["catalog"], saved["doubtful"])))


def _differs(tables: Mapping[str, TableFingerprint], found: reader.Fingerprints) -> str:
    if found.missing:
        return f"it could not be compared: {next(iter(found.missing.values()))}"
    differ = sorted(name for name in tables.keys() | found.tables.keys() if tables.get(name) != found.tables.get(name))
    return f"a database that was made from it has other rows in {', '.join(differ[:5])}" if differ else ""


def _lacks(original: Mapping[str, str], rebuilt: Mapping[str, str], doubtful: list[str]) -> Iterator[str]:
    for name in sorted(original.keys() | rebuilt.keys()):
        if original.get(name, "") != rebuilt.get(name, ""):
            yield name
    yield from doubtful


def build(export: Path, database: Path, *, engine: Path | None, share: float = memory.SHARE) -> None:
    """Make the new database ``database`` from a logical export, by statements that were checked first.

    Raises ``Unreadable``, ``Unread``, ``ToolMissing``; ``UnsafeArchive`` for an export that asks for something else.
    """
    size = sum(path.stat().st_size for path in export.rglob("*"))
    _imported(export, database, size, engine, share)


def _exported(layout: kuzu_layout.Layout, export: Path, engine: Path | None, share: float) -> dict[str, Any]:
    """Read-only if the engine can do that: the copy will be archived."""

    def of(place: Opened, *, writing: bool) -> dict[str, Any]:
        @contextlib.contextmanager
        def fresh() -> Iterator[Path]:
            shutil.rmtree(export, ignore_errors=True)
            with place() as path:
                yield path

        return _ask("export", export, fresh, layout.size(), engine, share, read_only=not writing)

    if not layout.folder:
        try:
            return of(lambda: contextlib.nullcontext(layout.path), writing=False)
        except Unreadable as verdict:
            if not verdict.needs_writing:
                raise
    return of(lambda: reader.thrown_away(layout), writing=True)


def _imported(export: Path, database: Path, size: int, engine: Path | None, share: float) -> dict[str, Any]:
    """Every attempt begins with a new database: after a lack of memory it is incomplete."""

    @contextlib.contextmanager
    def fresh() -> Iterator[Path]:
        database.parent.mkdir(mode=0o700, exist_ok=True)
        for path in (database, *(kuzu_layout.companion(database, end) for end in kuzu_layout.COMPANIONS)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        yield database

    return _ask("import", export, fresh, size, engine, share)


def _ask(
    do: str, export: Path, opened: Opened, size: int, engine: Path | None, share: float, *, read_only: bool = False
) -> dict[str, Any]:
    request = {"do": do, "export": str(export), "engine": str(engine) if engine else None, "read_only": read_only}
    answer = child.ask(request, opened, bytes=size, share=share, program=_PROGRAM)[0]
    if answer["verdict"] == "refused":
        raise UnsafeArchive(
            f"the export asks for what no export needs: {answer['detail']}",
            on=export.name,
            hint="nothing of it was run; restore the raw copy",
        )
    return answer


__all__ = ["Made", "build", "make", "with_export"]
