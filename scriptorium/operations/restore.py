"""Restoring a backup: the steps, and the recipe that runs them without Prefect (``restore``).

The steps in their order: ``plan_restore`` (with its preflight), ``save_first``, ``restore_data``, ``finished``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.catalog.run_progress import recorded
from scriptorium.errors import DamageFound, LibraryBusy, NotFound, RestoreFailed, ScriptoriumError
from scriptorium.manifest import new_id
from scriptorium.model import Backup, Copy, Survey, Unsaved
from scriptorium.operations.backup import backup
from scriptorium.operations.decided import plan_of
from scriptorium.progress import Advance, step
from scriptorium.requests import BackupRequest, RestoreRequest
from scriptorium.restore import (
    Preflight,
    Supply,
    cut_short,
    preflight_in_place,
    preflight_into,
    preflight_renamed,
    recover,
    restore_as,
    restore_in_place,
    restore_into,
)
from scriptorium.restore.health_check import require_healthy
from scriptorium.restore.space import Surveys, known, survey_each
from scriptorium.restore.supply import named
from scriptorium.results import PreflightRow, Restored, RestoreResult
from scriptorium.settings import Library, Settings
from scriptorium.sources import RestoreOptions, Source
from scriptorium.sources.abilities import living_path, streamable
from scriptorium.words import Tier
from scriptorium.workspace.containment import contained

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """A restore that is to be done: decided once, passed to every step.

    ``request``: the request, with the backup, library and store that were found. ``bytes``: the size of the copy.
    ``preflight``: what was checked.
    ``safety``: the safety backup that is taken first; none for a restore into a folder, or if no living data is left.
    """

    id: str
    request: RestoreRequest
    backup: str
    library: str
    store: str
    key: str
    bytes: int
    preflight: Preflight
    safety: BackupRequest | None
    began: float = field(default_factory=time.monotonic, compare=False)

    @property
    def in_place(self) -> bool:
        """Whether living data is replaced."""
        return self.request.in_place


def restore(settings: Settings, request: RestoreRequest, *, advance: Advance | None = None) -> RestoreResult:
    """The whole recipe without Prefect, with its safety backup."""
    plan = plan_restore(settings, request)
    plan.preflight.require()
    with contained():
        saved = save_first(plan.safety, lambda wanted: backup(settings, wanted, advance=advance).backup)
        restored = restore_data(settings, plan, advance=advance)
    return finished(settings, plan, restored, saved)


def plan_restore(settings: Settings, request: RestoreRequest, *, thorough: bool = False) -> RestorePlan:
    """Find the backup and the copy to read, and check everything that could prevent the restore. Changes nothing.

    ``NotFound``, ``DamageFound`` or ``UsageError`` if the request cannot be carried out; other problems are in the
    preflight. ``thorough``: files of a database are also copied and opened, to learn whether a safety backup can be
    taken.
    """
    if (known := plan_of(request, RestorePlan)) is not None:
        return known
    catalog = Catalog(settings)
    found = catalog.find(request.reference, library=request.library)
    copy = catalog.copy_of(found, request.store)
    if not copy.status.good and request.store is None:
        raise DamageFound(
            "every copy of this backup is damaged",
            on=found.id,
            hint=f"{'; '.join(copy.damage[:2])}. Take another backup, or {_way_on(settings, found, copy)}",
        )
    where = {"reference": found.id, "library": found.library, "store": copy.store}
    if request.path is not None:
        where["path"] = str(Path(request.path).absolute())
    request = request.model_copy(update=where)
    id = new_id()
    where_to = "in place" if request.in_place else request.path or f"as the database {request.database}"
    log.info("restore %s: of backup %s of %s from %s, %s", id, found.id, found.library, copy.store, where_to)
    supply = _supply(settings, request, copy.key)
    preflight, safety = _preflight(settings, request, supply, id, thorough)
    return RestorePlan(id, request, found.id, found.library, copy.store, copy.key, copy.bytes, preflight, safety)


def _supply(settings: Settings, request: RestoreRequest, key: str) -> Supply:
    assert request.store is not None
    store = settings.store(request.store)
    # ``clean`` of a restore to a folder means the folder
    options = RestoreOptions.chosen({**request.parameters(), "clean": request.clean and request.in_place})
    return Supply(store, key, store.manifest(key), request.only, options)


def _preflight(
    settings: Settings, request: RestoreRequest, supply: Supply, id: str, thorough: bool
) -> tuple[Preflight, BackupRequest | None]:
    """The preflight, and the safety backup that has to be taken."""
    if request.path is not None:
        never = _not_a_target(settings)
        return preflight_into(supply, Path(request.path), clean=request.clean, never=never), None
    library = settings.library(request.library)
    if request.database:
        return preflight_renamed(library, supply, request.database), None
    cut = cut_short(settings, library)
    if not request.safety:
        found = preflight_in_place(library, supply, id)
        return found if cut is None else Preflight((interrupted(cut.backup), *found.rows), found.sources), None
    surveys = survey_each(settings, library)
    nothing = nothing_to_save(surveys)
    wanted = None if nothing else safety_request(library.name, f"before the restore of {request.reference}")
    if cut is not None:  # the undo comes first, so the present data is not what would be saved
        found = preflight_in_place(library, supply, id)
        return Preflight((interrupted(cut.backup), *found.rows), found.sources), wanted
    found = preflight_in_place(library, supply, id, saving=settings, surveys=surveys)
    free = all(row.trouble is None for row in found.rows)
    row = _safety(settings, library, surveys, nothing, thorough and free)
    return Preflight((*found.rows, row), found.sources), wanted


def _safety(settings: Settings, library: Library, surveys: Surveys, nothing: bool, thorough: bool) -> PreflightRow:
    """Whether the living data can be backed up first. A damaged or missing database cannot; this row reports it."""
    what = "safety backup"
    if nothing:
        return PreflightRow(what, "none: no living data is left")
    chosen = library.sources_of(settings.type_of(Tier.BEFORE_RESTORE))
    try:
        sizes = known(surveys, [source.name for source in chosen])
        for source in chosen:
            if thorough and source.role == "database" and streamable(source) is None:
                _capture_once(settings, library, source, sizes[source.name].staged_bytes)
    except LibraryBusy as error:
        return PreflightRow(what, f"is taken first (reading its database was not tried: {error})")
    except ScriptoriumError as error:
        return PreflightRow(what, "cannot be taken", without_safety(error))
    return PreflightRow(what, "is taken first")


def _capture_once(settings: Settings, library: Library, source: Source, size: int) -> None:
    """Capture a database that consists of files into a scratch folder, as a backup does; raises what is wrong."""
    scratch = workspace.scratch_name(library.name)
    with (
        workspace.lock(settings, scratch, "a plan of a restore"),
        workspace.staging(settings, scratch, new_id()) as folder,
    ):
        workspace.require_space(folder, size, "the safety backup")
        source.capture(folder)


def interrupted(backup: str) -> PreflightRow:
    """The row for an earlier restore, which must be undone first."""
    return PreflightRow(
        "an earlier restore", f"of {backup} was cut short, or is running; the data from before it is put back first"
    )


def nothing_to_save(surveys: Surveys) -> bool:
    """Whether a library has no living data, as on a new machine: then a safety backup would be empty."""
    return all(isinstance(one, NotFound) or (isinstance(one, Survey) and not one.files) for one in surveys.values())


def safety_request(library: str, why: str) -> BackupRequest:
    """The backup of the living data before it is replaced."""
    return BackupRequest(library=library, tier=Tier.BEFORE_RESTORE, description=why)


def save_first(wanted: BackupRequest | None, take: Callable[[BackupRequest], Backup]) -> Backup | None:
    """Take the safety backup with ``take``. If it fails, the restore ends here. None if no safety backup is wanted."""
    if wanted is None:
        return None
    try:
        return take(wanted)
    except ScriptoriumError as error:
        raise without_safety(error) from error


def _way_on(settings: Settings, found: Backup, copy: Copy) -> str:
    """What else can be done with a damaged copy."""
    if not found.claims:
        return f"--from {copy.store} to try anyway"
    place = settings.store(copy.store).location(copy.key)
    return f"adopt its archive, which has a manifest of its own: scriptorium catalog adopt {place}"


def without_safety(error: ScriptoriumError) -> RestoreFailed:
    """The error for a safety backup that could not be taken; its hint says how to restore without one."""
    return RestoreFailed(
        f"the living data could not be backed up first: {error}",
        hint="nothing was changed. --no-safety restores without it; the previous data is still kept for --undo",
    )


def lacking_in_safety(settings: Settings, saved: Backup | None) -> tuple[str, ...]:
    """A line that says what the safety backup could not save; no line if it is complete or there is none."""
    if saved is None:
        return ()
    stores = tuple(f"the safety backup {saved.id} has {one}" for one in saved.missing)
    if not saved.unsaved:
        return stores
    unsaved: Sequence[Unsaved] = ()
    with suppress(ScriptoriumError):  # it is taken, even if its store fails now
        unsaved = Catalog(settings).manifest(saved.copies[0]).unsaved
    return (f"the safety backup {saved.id} is degraded: it lacks {named(unsaved, saved.unsaved)}", *stores)


def restore_data(settings: Settings, plan: RestorePlan, *, advance: Advance | None = None) -> Restored:
    """Carry out the plan. If it fails, or the application is not healthy afterwards, the previous data is put back."""
    request = plan.request
    supply = _supply(settings, request, plan.key)
    with (
        contained(),
        workspace.reading(settings, plan.backup),
        recorded(settings, plan.id, "restore", plan.library),
        step("restoring", plan.backup, expected=plan.bytes, also=advance) as advance,
    ):
        if request.path is not None:
            sources = _sources(settings, plan.library)
            never = _not_a_target(settings)
            return restore_into(
                supply,
                Path(request.path),
                plan.id,
                sources=sources,
                clean=request.clean,
                never=never,
                advance=advance,
            )
        library = settings.library(plan.library)
        if request.database:
            return restore_as(library, supply, plan.id, request.database, advance=advance)
        check = library.health
        healthy = None if check is None else lambda: require_healthy(check)
        with workspace.lock(settings, plan.library, f"restore of {plan.backup}"):
            undone = recover(settings, library)
            preflight = None if undone else plan.preflight  # that one saw the mixed data of the interrupted restore
            return restore_in_place(
                settings, library, supply, plan.id, preflight=preflight, healthy=healthy, advance=advance
            )


def finished(settings: Settings, plan: RestorePlan, restored: Restored, saved: Backup | None) -> RestoreResult:
    """The result of the restore, with what is missing in the two backups."""
    lacks = lacking_in_safety(settings, saved)
    return RestoreResult(
        backup=plan.backup,
        library=plan.library,
        store=plan.store,
        preflight=plan.preflight.rows,
        restored=replace(restored, lacking=(*restored.lacking, *lacks)),
        safety=saved,
        safety_lacks=lacks,
        seconds=time.monotonic() - plan.began,
        in_place=plan.in_place,
    )


def _not_a_target(settings: Settings) -> tuple[Path, ...]:
    """Folders that the target may neither be nor contain: our own folders, and living data."""
    sources = [source for library in settings.libraries.values() for source in library.sources]
    living = [path for source in sources if (path := living_path(source)) is not None]
    return (*settings.never, *living)


def _sources(settings: Settings, library: str) -> dict[str, Source]:
    known = settings.libraries.get(library)
    return {source.name: source for source in known.sources} if known else {}
