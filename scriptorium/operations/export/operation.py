"""Exporting, step by step: find the backup and the tables, then write one file per table."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.catalog.run_progress import recorded
from scriptorium.errors import DamageFound, NotFound
from scriptorium.manifest import label_of, new_id
from scriptorium.model import Backup, Copy, Manifest, Part
from scriptorium.operations.decided import plan_of
from scriptorium.operations.export.members import Extraction
from scriptorium.operations.export.output import Output, output_to, require_free
from scriptorium.operations.export.tables import choose, not_recorded
from scriptorium.operations.export.writers import WRITERS, Writer
from scriptorium.progress import Advance, step
from scriptorium.requests import LATEST, ExportRequest
from scriptorium.restore import Supply
from scriptorium.restore.into_folder import source_of
from scriptorium.results import ExportedTable, ExportResult
from scriptorium.settings import Settings
from scriptorium.sources import Source
from scriptorium.sources.abilities import tabular
from scriptorium.sources.tables import Batch, Origin, Wanted
from scriptorium.stores.care import require_key
from scriptorium.words import ROLES, ExportFormat, Role
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)

_HINT = "use another copy of this backup"


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """An export that is to be done. ``output``: a folder if ``folder``, else the file of the one table."""

    backup: Backup
    copy: Copy
    tables: tuple[str, ...]
    format: ExportFormat
    output: Path
    folder: bool
    began: float = field(default_factory=time.monotonic, compare=False)


def export(settings: Settings, request: ExportRequest, *, advance: Advance | None = None) -> ExportResult:
    """The whole recipe without Prefect."""
    return run_export(settings, plan_export(settings, request), advance=advance)


def plan_export(settings: Settings, request: ExportRequest) -> ExportPlan:
    """Find the backup and the tables, and decide where they are written. Writes nothing.

    ``latest`` is the newest good backup with a database whose tables are recorded. ``NotFound``; ``UsageError`` if the
    output exists already.
    """
    if (known := plan_of(request, ExportPlan)) is not None:
        return known
    catalog = Catalog(settings)
    backup = _found(settings, catalog, request.reference, request.library)
    copy = catalog.copy_of(backup)
    require_key(settings.store(copy.store), copy.key)
    chosen = choose(catalog.manifest(copy), request.tables)
    folder = not request.tables or len(chosen) > 1
    output = request.output
    if folder:
        place = Path(output or f"{label_of(copy.label)}-{request.format}")
    else:
        name = f"{chosen[0].stem}.{request.format}"
        place = Path(output or name)
        if output and (place.is_dir() or output.endswith("/")):
            place /= name
    place = place.absolute()
    require_free(place, folder=folder)
    return ExportPlan(backup, copy, request.tables, request.format, place, folder)


def _found(settings: Settings, catalog: Catalog, reference: str, library: str | None) -> Backup:
    if reference != LATEST:
        return catalog.find(reference, library=library)
    name = settings.library(library).name if settings.libraries else library
    good = []
    listing = catalog.listing(library=name, records=False)
    for backup in listing.backups:
        if backup.status.good and Role.DATABASE in ROLES[backup.type]:
            good.append(backup)
    if good:  # one whose tables are recorded comes first
        return next((backup for backup in good if not backup.unrecorded), good[0])
    problems = ", ".join(problem.store for problem in listing.problems)
    hint = f"these stores could not be read: {problems}" if problems else "take one: scriptorium create"
    raise NotFound("there is no good backup with a database yet", on=name or "", hint=hint)


def run_export(settings: Settings, plan: ExportPlan, *, advance: Advance | None = None) -> ExportResult:
    """Write the tables: at the end either all files exist or none.

    ``DamageFound`` if a member is not what was saved, or a table has another number of rows than in the manifest.
    """
    supply = _supply(settings, plan)
    wanted = choose(supply.manifest, plan.tables)
    log.info("%d tables of %s in %s are exported to %s", len(wanted), plan.copy.label, plan.copy.store, plan.output)
    with (
        contained(),
        workspace.reading(settings, plan.backup.id),
        output_to(plan.output) as output,
        recorded(settings, new_id(), "export", plan.backup.library),
        step("exporting", plan.backup.id, expected=plan.copy.bytes, also=advance) as advance,
    ):
        origins = _origins(settings, plan, wanted, output)
        extraction = Extraction(supply, advance)
        absent = _follow_guides(extraction, origins, supply.manifest.parts)
        if plan.tables and absent:
            raise NotFound(
                "a backup contains no rows of it: it is a sequence, a view, or large objects",
                on=absent[0].table,
                hint="restore the database to get it",
            )
        written = _write(extraction, list(origins.values()), output, plan)
        present = [one for one in wanted if one not in absent]
        files = tuple(_checked(one, written.get(one.stem), plan, output) for one in present)
        if plan.folder:
            output.put_folder()
        else:
            output.put_file(f"{present[0].stem}.{plan.format}")
    return ExportResult(
        backup=plan.backup.id,
        name=plan.backup.name,
        library=plan.backup.library,
        format=plan.format,
        output=str(plan.output),
        tables=files,
        without_rows=tuple(one.table for one in absent),
    )


def _supply(settings: Settings, plan: ExportPlan) -> Supply:
    manifest: Manifest = Catalog(settings).manifest(plan.copy)
    return Supply(settings.store(plan.copy.store), plan.copy.key, manifest)


def _origins(settings: Settings, plan: ExportPlan, wanted: Sequence[Wanted], output: Output) -> Mapping[str, Origin]:
    """The parts that contain the tables, by source."""
    library = settings.libraries.get(plan.backup.library)
    known: dict[str, Source] = {one.name: one for one in library.sources} if library else {}
    origins: dict[str, Origin] = {}
    for number, part in enumerate({one.part.source: one.part for one in wanted}.values()):
        mine = [one for one in wanted if one.part.source == part.source]
        folder = output.spool / str(number)
        folder.mkdir(mode=0o700)
        source = tabular(source_of(part, known, folder))
        if source is not None:
            origins[part.source] = source.tables_in(part, mine, folder)
    return origins


def _follow_guides(extraction: Extraction, origins: Mapping[str, Origin], parts: Sequence[Part]) -> list[Wanted]:
    """Read every guide; returns the tables that have no rows in the backup."""

    def place_of(member: str) -> Path | None:
        return next((place for origin in origins.values() if (place := origin.guide(member)) is not None), None)

    def may_be(member: str) -> bool:
        return any(origin.may_guide(member) for origin in origins.values())

    extraction.guides(may_be, place_of, lambda: all(origin.guided() for origin in origins.values()))
    for part in parts:
        if part.source not in origins or origins[part.source].guided():
            continue
        if part.provenance.adopted:
            raise not_recorded(part.source)
        raise DamageFound("a file is missing in the backup", on=origins[part.source].lacking[0], hint=_HINT)
    return [one for origin in origins.values() for one in origin.follow()]


@dataclass(slots=True)
class _Sheet:
    """A file that is being written."""

    file: BinaryIO
    writer: Writer
    rows: int = 0


@dataclass(slots=True)
class _Sheets:
    """The files of an export, opened at their first rows. The rows of a relationship come from several members."""

    output: Output
    format: str
    stack: contextlib.ExitStack
    opened: dict[str, _Sheet] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        stem = batch.table.stem
        if stem not in self.opened:
            file = self.stack.enter_context(self.output.file(f"{stem}.{self.format}"))
            self.opened[stem] = _Sheet(file, WRITERS[self.format](file))
            self.stack.callback(self.opened[stem].writer.close)  # before its file, also when something fails
        sheet = self.opened[stem]
        sheet.writer.write(batch.rows, batch.data)
        sheet.rows += batch.rows


def _write(extraction: Extraction, origins: Sequence[Origin], output: Output, plan: ExportPlan) -> Mapping[str, int]:
    """Write every wanted member into the file of its table; returns the number of rows by the stem of the file."""

    def place_of(member: str) -> Path | None:
        return next((place for origin in origins if (place := origin.data(member)) is not None), None)

    def enough() -> bool:
        return not any(origin.lacking for origin in origins)

    with contextlib.ExitStack() as stack:
        sheets = _Sheets(output, plan.format, stack)
        for origin in origins:
            stack.callback(origin.close)
        for member, _ in stack.enter_context(contextlib.closing(extraction.spooled(place_of, enough))):
            origin = next(one for one in origins if one.data(member) is not None)
            with contextlib.closing(origin.read(member)) as batches:
                for batch in batches:
                    sheets.add(batch)
        for origin in origins:
            for batch in origin.rest():
                sheets.add(batch)
            if origin.lacking:
                raise DamageFound("a file is missing in the backup", on=origin.lacking[0], hint=_HINT)
        extraction.require_proven()
        return {stem: sheet.rows for stem, sheet in sheets.opened.items()}


def _checked(one: Wanted, rows: int | None, plan: ExportPlan, output: Output) -> ExportedTable:
    if rows != one.rows:
        raise DamageFound(
            f"the table has {rows or 0:,} rows in the archive, {one.rows:,} were saved",
            on=one.table,
            hint="use another copy of this backup, or restore it",
        )
    name = f"{one.stem}.{plan.format}"
    path = plan.output / name if plan.folder else plan.output
    return ExportedTable(one.part.source, one.table, str(path), rows, (output.working / name).stat().st_size)
