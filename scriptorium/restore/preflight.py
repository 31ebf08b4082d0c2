"""The preflight of a restore: finds everything that would make it fail, before anything is changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium import wording
from scriptorium.errors import KeyMissing, NoSpace, NotFound, ScriptoriumError, UsageError
from scriptorium.fs.free_space import device_of, free_bytes, has_space, nearest_folder
from scriptorium.fs.switch import anchors
from scriptorium.model import Part
from scriptorium.restore.into_folder import check_target, is_mounted
from scriptorium.restore.rollback import require_idle
from scriptorium.restore.space import Surveys, saved_sizes, staged_sizes, survey_each
from scriptorium.restore.supply import Supply, part_of, wanted
from scriptorium.restore.target import target_rows
from scriptorium.results import PreflightRow
from scriptorium.settings import Library, Settings
from scriptorium.sources import RestoreOptions, Source
from scriptorium.sources.abilities import living_path
from scriptorium.sources.abilities import renamed as renamed_as
from scriptorium.stores.care import require_key

log = logging.getLogger(__name__)

_NAMES = 5


@dataclass(frozen=True, slots=True)
class Preflight:
    """``rows``: in the order of the checks; ``sources``: of the parts that will be restored in place."""

    rows: tuple[PreflightRow, ...]
    sources: Mapping[str, Source]

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.trouble is None:
                log.info("preflight: %s: %s", row.what, row.found)
            else:
                log.warning("preflight: %s: %s; in the way: %s", row.what, row.found, row.trouble)

    def require(self) -> None:
        """Raise the first obstacle."""
        for row in self.rows:
            if row.trouble is not None:
                raise row.trouble


def preflight_in_place(
    library: Library,
    supply: Supply,
    restore_id: str,
    *,
    saving: Settings | None = None,
    surveys: Surveys | None = None,
) -> Preflight:
    """The preflight of a restore in place. ``saving``: the settings of a safety backup that is taken first;
    ``surveys``: the sizes of its sources."""
    rows = _backup(supply)
    sources: dict[str, Source] = {}
    for part in wanted(supply):
        row, source = _source(library, part)
        rows.append(row)
        rows += _unsaved(part, "the living ones are not changed")
        if source is not None:
            sources[part.source] = source
            rows += _conditions(source, part, supply.options)
            rows += _other_settings(source, part, supply)
    rows.append(_idle(library))
    if library.doubts:
        rows.append(_doubted(library))
    saved: Sequence[tuple[Path, int]] = ()
    if saving is not None:
        row, saved = _saving(saving, library, surveys or survey_each(saving, library))
        rows.append(row)
    staged = [*staged_sizes(supply, sources, restore_id)]
    rows += target_rows(supply, _living_folders(sources), required=False)
    rows += _space(staged, saved)
    return Preflight(tuple(rows), sources)


def _living_folders(sources: Mapping[str, Source]) -> Iterator[Path]:
    """The folders beside which a restore in place prepares files and databases that are files."""
    for source in sources.values():
        if (living := living_path(source)) is not None:
            yield anchors(living)[0]


def require_still(preflight: Preflight, library: Library, supply: Supply, restore_id: str) -> None:
    """Raise the error that a restore in place would end with. Two conditions may have changed since the preflight and
    are checked again: whether the application runs, and how much space is free."""
    preflight.require()
    require_idle(library)
    for row in _space([*staged_sizes(supply, preflight.sources, restore_id)], ()):
        if row.trouble is not None:
            raise row.trouble


def _backup(supply: Supply) -> list[PreflightRow]:
    """The backup, and the key that opens it."""
    rows = [PreflightRow("backup", f"{supply.manifest.name} from {supply.store.name}")]
    try:
        if key := require_key(supply.store, supply.key):
            rows.append(PreflightRow("key", key))
    except KeyMissing as error:
        rows.append(PreflightRow("key", "missing", error))
    return rows


def _source(library: Library, part: Part) -> tuple[PreflightRow, Source | None]:
    what = f"part {part.source}"
    source = next((one for one in library.sources if one.name == part.source), None)
    if source is None or source.kind != part.kind or source.place != part.path:
        trouble = NotFound(
            f"the settings of {library.name} have no such source any more",
            on=f"{part.source} ({part.kind}, {part.path or 'top'})",
            hint="restore to a folder: --restore-path DIR",
        )
        return PreflightRow(what, "not in the settings", trouble), None
    return PreflightRow(what, f"{part.kind}, {part.files:,} files, {wording.size(part.bytes)}"), source


def _unsaved(part: Part, then: str) -> Iterator[PreflightRow]:
    """The files of a part that are not in the backup, the first ones by name, and what the restore does with them."""
    if part.unsaved_count:
        first = ", ".join(one.path for one in part.unsaved[:_NAMES])
        more = ", …" if part.unsaved_count > _NAMES else ""
        yield PreflightRow(f"{part.source}: not in the backup", f"{part.unsaved_count:,} ({first}{more}); {then}")


def _other_settings(source: Source, part: Part, supply: Supply) -> Iterator[PreflightRow]:
    """Settings files of the application that will change: afterwards it may use another database."""
    root = living_path(source)
    for entry in supply.manifest.files.entries or ():
        inside = entry.path.removeprefix(f"{part.path}/") if part.path else entry.path
        if inside.rpartition("/")[2] != ".env" or part_of(entry.path, (part,)) is None or not supply.wants(entry.path):
            continue
        living = root / inside if root is not None else None
        if living is not None and living.is_file() and hashlib.sha256(living.read_bytes()).hexdigest() != entry.sha256:
            found = "differs from the living one: it may name another database, user or password for the application"
            yield PreflightRow(entry.path, f"{found}. --undo uses the address that is in use now")


def _conditions(source: Source, part: Part, options: RestoreOptions) -> Iterator[PreflightRow]:
    for what, check in source.preconditions(part, options).items():
        try:
            yield PreflightRow(f"{part.source}: {what}", check())
        except ScriptoriumError as error:
            yield PreflightRow(f"{part.source}: {what}", "no", error)


def _idle(library: Library) -> PreflightRow:
    try:
        return PreflightRow("application", require_idle(library))
    except ScriptoriumError as error:
        return PreflightRow("application", "running", error)


def _doubted(library: Library) -> PreflightRow:
    try:
        library.require_no_doubt()
    except ScriptoriumError as error:
        return PreflightRow("places", "in doubt", error)
    return PreflightRow("places", "those of the application")


def _saving(settings: Settings, library: Library, surveys: Surveys) -> tuple[PreflightRow, Sequence[tuple[Path, int]]]:
    """Whether there is space for the safety backup. Nothing else is checked here."""
    what = "space for the safety backup"
    try:
        saved = saved_sizes(settings, library, surveys)
    except NoSpace as error:
        hint = f"{error.hint}; or --no-safety: the previous data is kept anyway, for --undo"
        return PreflightRow(what, "too little", NoSpace(error.what, on=error.on, hint=hint)), ()
    except ScriptoriumError as error:
        return PreflightRow(what, f"not known: {error}"), ()
    sizes = ", ".join(f"about {wording.size(size)} at {folder}" for folder, size in saved)
    return PreflightRow(what, sizes or "its stores are elsewhere"), saved


def _space(staged: Sequence[tuple[Path, int]], saved: Sequence[tuple[Path, int]]) -> Iterator[PreflightRow]:
    """For each filesystem: the bytes that will be staged, plus those ``saved`` there before, compared with free
    space."""
    needed: dict[int, tuple[Path, int]] = {}
    for folder, size in staged:
        device = device_of(folder)
        needed[device] = (folder, needed.get(device, (folder, 0))[1] + size)
    for device, (folder, size) in needed.items():
        yield _space_row(folder, size + sum(bytes for place, bytes in saved if device_of(place) == device))


def _space_row(folder: Path, size: int) -> PreflightRow:
    found = f"{wording.size(size)} needed, {wording.size(free_bytes(folder))} free at {folder}"
    if has_space(folder, size):
        return PreflightRow("space", found)
    return PreflightRow(
        "space", found, NoSpace("the restore does not fit", on=str(folder), hint=f"{found}; free some space")
    )


def preflight_renamed(library: Library, supply: Supply, name: str) -> Preflight:
    """The preflight of a restore of one database under another name."""
    rows = _backup(supply)
    for part in supply.manifest.parts:
        source = next((one for one in library.sources if one.name == part.source), None)
        renamed = renamed_as(source, name) if source is not None and source.kind == part.kind else None
        if renamed is not None:
            rows.append(PreflightRow(f"part {part.source}", f"as the database {name}, {wording.size(part.bytes)}"))
            rows += _conditions(renamed, part, supply.options)
    return Preflight(tuple(rows), {})


def preflight_into(supply: Supply, target: Path, *, clean: bool, never: Sequence[Path] = ()) -> Preflight:
    """The preflight of a restore into a folder."""
    parts = wanted(supply)
    rows = _backup(supply)
    rows += [PreflightRow(f"part {p.source}", f"{p.kind}, {p.files:,} files, {wording.size(p.bytes)}") for p in parts]
    rows += [row for part in parts for row in _unsaved(part, "it could not be read when the backup was taken")]
    try:
        check_target(target, clean, never)
        rows.append(PreflightRow("target", f"{target} {'is replaced' if target.exists() else 'is made'}"))
    except UsageError as error:
        rows.append(PreflightRow("target", str(target), error))
    if all(row.trouble is None for row in rows):
        rows += target_rows(supply, [target if is_mounted(target) else target.parent], required=True)
    if not supply.only:
        rows.append(_space_row(nearest_folder(target), sum(part.allocated for part in parts)))
    return Preflight(tuple(rows), {})
