"""Bringing a backup back, step by step: the work of the restore flow's tasks, callable without Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, LibraryBusy, NotFound, RestoreFailed, ScriptoriumError, UsageError
from scriptorium.fs.previous import Previous, Whereabouts
from scriptorium.manifest import new_id
from scriptorium.model import Backup, Tier, Unsaved
from scriptorium.progress import Advance
from scriptorium.restore import (
    Plan,
    Planned,
    Restored,
    Supply,
    cut_short,
    find_previous,
    newest_kept,
    plan_in_place,
    plan_into,
    plan_renamed,
    recover,
    require_idle,
    require_previous,
    restore_as,
    restore_in_place,
    restore_into,
    undo,
)
from scriptorium.restore.health_check import require_healthy
from scriptorium.restore.supply import named
from scriptorium.settings import Library, Settings
from scriptorium.sources import RestoreOptions, Source
from scriptorium.sources.abilities import living_path, streamable

_OTHER_WAY = "bring it back, or restore the safety backup of before the restore: scriptorium list"


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """A restore that is to be done. ``into``: a folder; ``database``: one database, under that name, beside the living
    one; without either, the living data is replaced."""

    id: str
    backup: str
    library: str
    store: str
    key: str
    into: Path | None
    only: tuple[str, ...]
    rebuild: bool
    clean: bool
    database: str = ""
    without_roles: bool = False
    without_broken_constraints: bool = False
    safety: bool = True

    @property
    def in_place(self) -> bool:
        """Whether living data is replaced."""
        return self.into is None and not self.database


def place_restore(
    settings: Settings,
    reference: str,
    *,
    library: str | None = None,
    into: Path | None = None,
    only: Sequence[str] = (),
    store: str | None = None,
    rebuild: bool = False,
    clean: bool = False,
    database: str = "",
    without_roles: bool = False,
    without_broken_constraints: bool = False,
    safety: bool = True,
) -> RestoreOrder:
    """Find the backup and the copy to read. ``NotFound``, ``DamageFound`` or ``UsageError`` say what cannot be."""
    catalog = Catalog(settings)
    backup = catalog.find(reference, library=library)
    copy = catalog.copy_of(backup, store)
    if not copy.status.good and store is None:
        raise DamageFound(
            "every copy of this backup is damaged",
            on=backup.id,
            hint=f"{'; '.join(copy.damage[:2])}. Take another backup, or --from {copy.store} to try all the same",
        )
    if database and (into is not None or only):
        raise UsageError("--database restores one database under another name; it goes with no folder and no pattern")
    return RestoreOrder(
        id=new_id(),
        backup=backup.id,
        library=backup.library,
        store=copy.store,
        key=copy.key,
        into=into.absolute() if into else None,
        only=tuple(only),
        rebuild=rebuild,
        clean=clean,
        database=database,
        without_roles=without_roles,
        without_broken_constraints=without_broken_constraints,
        safety=safety,
    )


def _supply(settings: Settings, order: RestoreOrder) -> Supply:
    store = settings.store(order.store)
    return Supply(store, order.key, store.manifest(order.key), order.only, _options(order))


def _options(order: RestoreOrder) -> RestoreOptions:
    """The user's word on how sources are restored. ``clean`` of a restore to a folder means the folder."""
    return RestoreOptions.chosen({**asdict(order), "clean": order.clean and order.in_place})


def plan_restore(settings: Settings, order: RestoreOrder, *, thorough: bool = False) -> Plan:
    """Everything that can be known to stand in the way, as rows; changes nothing.

    ``thorough``: files of a database are copied and opened as well, to learn whether a safety backup can be taken.
    """
    supply = _supply(settings, order)
    if order.into is not None:
        return plan_into(supply, order.into, clean=order.clean, never=_not_a_target(settings))
    if order.database:
        return plan_renamed(settings.library(order.library), supply, order.database)
    library = settings.library(order.library)
    cut = cut_short(settings, library)
    plan = plan_in_place(library, supply, order.id, saving=settings if order.safety and cut is None else None)
    first = () if cut is None else (_interrupted(cut.backup),)  # what lives now is not what would be saved
    free = all(row.trouble is None for row in plan.rows)
    last = (_safety(settings, library, thorough and free),) if order.safety and cut is None else ()
    return Plan((*first, *plan.rows, *last), plan.sources)


def _safety(settings: Settings, library: Library, thorough: bool) -> Planned:
    """Whether what lives can be backed up first; a database that is damaged or gone cannot, and that is said now."""
    what = "safety backup"
    try:
        if nothing_to_save(settings, library.name):
            return Planned(what, "none: nothing living is left")
        for source in library.sources_of(settings.type_of(Tier.BEFORE_RESTORE)):
            survey = source.survey(settings.never_of(library, source))
            if thorough and source.role == "database" and streamable(source) is None:
                _try_to_read(settings, library, source, survey.staged_bytes)
    except LibraryBusy as error:
        return Planned(what, f"is taken first (its database was not tried: {error})")
    except ScriptoriumError as error:
        return Planned(what, "cannot be taken", without_safety(error))
    return Planned(what, "is taken first")


def _try_to_read(settings: Settings, library: Library, source: Source, size: int) -> None:
    """What a backup does with a database that is files, in a room of its own; raises what is wrong with it."""
    scratch = workspace.scratch_name(library.name)
    with (
        workspace.lock(settings, scratch, "a plan of a restore"),
        workspace.staging(settings, scratch, new_id()) as folder,
    ):
        workspace.require_space(folder, size, "the safety backup")
        source.capture(folder)


def _interrupted(backup: str) -> Planned:
    return Planned(
        "a former restore", f"of {backup} was cut short, or is running; what was there before it is put back first"
    )


def nothing_to_save(settings: Settings, library: str) -> bool:
    """Whether nothing living is left of a library: a new machine, where a safety backup would hold nothing."""
    known = settings.library(library)
    for source in known.sources:
        with suppress(NotFound):
            if source.survey(settings.never_of(known, source)).files:
                return False
    return True


def without_safety(error: ScriptoriumError) -> RestoreFailed:
    """The error of a safety backup that could not be taken, with the way on for those who know what they do."""
    return RestoreFailed(
        f"the living data could not be backed up first: {error}",
        hint="nothing was changed. --no-safety goes on without: what is replaced is kept all the same, for --undo",
    )


def lacking_in_safety(settings: Settings, saved: Backup | None) -> tuple[str, ...]:
    """What the safety backup could not save, as a line: nothing where it is whole, or where there is none."""
    if saved is None or not saved.unsaved:
        return ()
    unsaved: Sequence[Unsaved] = ()
    with suppress(ScriptoriumError):  # it is taken, whatever becomes of its store now
        unsaved = Catalog(settings).manifest(saved.copies[0]).unsaved
    return (f"the safety backup {saved.id} is degraded: it lacks {named(unsaved, saved.unsaved)}",)


def bring_back(settings: Settings, order: RestoreOrder, *, advance: Advance | None = None) -> Restored:
    """Do it. On any failure, or when the application is not well afterwards, what was there before is there again."""
    supply = _supply(settings, order)
    with workspace.reading(settings, order.backup):
        if order.into is not None:
            sources = _sources(settings, order.library)
            never = _not_a_target(settings)
            return restore_into(
                supply, order.into, order.id, sources=sources, clean=order.clean, never=never, advance=advance
            )
        if order.database:
            return restore_as(settings.library(order.library), supply, order.id, order.database, advance=advance)
        library = settings.library(order.library)
        check = library.health
        healthy = None if check is None else lambda: require_healthy(check)
        with workspace.lock(settings, order.library, f"restore of {order.backup}"):
            recover(settings, library)
            return restore_in_place(settings, library, supply, order.id, healthy=healthy, advance=advance)


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What ``go_back`` would do: the restore of ``backup`` is undone. ``cut_short``: it, or an undo of it, was ended in
    the middle, so that the living data may be a mixture, of which no safety backup is worth anything."""

    library: str
    backup: str
    cut_short: bool


def find_undo(settings: Settings, library: str | None) -> UndoPlan:
    """What there is to go back from: a restore that was cut short comes before one that stands.

    ``NotFound`` when no former data is kept.
    """
    chosen = settings.library(library)
    cut = cut_short(settings, chosen)
    if cut is not None:
        return UndoPlan(chosen.name, cut.backup, cut_short=True)
    return UndoPlan(chosen.name, newest_kept(settings, chosen).backup, cut_short=False)


def check_undo(settings: Settings, library: str | None) -> UndoPlan:
    """The way back, once nothing known stands in it: ``LibraryBusy`` while the application holds the data open,
    ``RestoreFailed`` when the previous data of a part is not there."""
    way = find_undo(settings, library)
    if not way.cut_short:  # otherwise it depends on how far the restore came, which recover knows
        chosen = settings.library(way.library)
        require_idle(chosen)
        require_previous(newest_kept(settings, chosen), chosen)
    return way


def plan_undo(settings: Settings, way: UndoPlan) -> Plan:
    """What going back would meet, as rows; changes nothing."""
    chosen = settings.library(way.library)
    if way.cut_short:
        cut = cut_short(settings, chosen)
        found = find_previous(cut, chosen) if cut is not None and cut.kept else {}
        whereabouts = (_whereabouts(source, one, one.where is not Whereabouts.GONE) for source, one in found.items())
        last = Planned("safety backup", "none: a mixture is not saved")
        return Plan((_interrupted(way.backup), *whereabouts, last), {})
    rows = [Planned("restore", f"of {way.backup} over {way.library}: what it replaced is put back")]
    try:
        rows.append(Planned("application", require_idle(chosen)))
    except LibraryBusy as error:
        rows.append(Planned("application", "running", error))
    found = find_previous(newest_kept(settings, chosen), chosen)
    return Plan((*rows, *(_whereabouts(source, one, one.whole) for source, one in found.items())), {})


def _whereabouts(source: str, found: Previous, good: bool) -> Planned:
    trouble = RestoreFailed("the previous data cannot be put back", on=f"{source}: {found.what}", hint=_OTHER_WAY)
    return Planned(f"previous data of {source}", f"{found.where}: {found.what}", None if good else trouble)


def undo_restore(settings: Settings, library: str) -> str:
    """Put back what the newest restore replaced; returns the id of the backup that is undone.

    After a restore that was cut short only that one is undone: an older one that stands was not meant.
    """
    chosen = settings.library(library)
    with workspace.lock(settings, library, "going back from a restore"):
        cut = cut_short(settings, chosen)
        recover(settings, chosen)
        return cut.backup if cut is not None else undo(settings, chosen)


def _not_a_target(settings: Settings) -> tuple[Path, ...]:
    """What no folder to restore to may be or hold: our own folders, and what is living."""
    sources = [source for library in settings.libraries.values() for source in library.sources]
    living = [path for source in sources if (path := living_path(source)) is not None]
    return (*settings.never, *living)


def _sources(settings: Settings, library: str) -> dict[str, Source]:
    known = settings.libraries.get(library)
    return {source.name: source for source in known.sources} if known else {}
