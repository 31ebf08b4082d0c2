"""Bringing a backup back, step by step: the work of the restore flow's tasks, callable without Prefect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, NotFound, RestoreFailed, ScriptoriumError, UsageError
from scriptorium.health import require_healthy
from scriptorium.manifest import new_id
from scriptorium.rescue import (
    Plan,
    Restored,
    Supply,
    newest_kept,
    plan_in_place,
    plan_into,
    plan_renamed,
    recover,
    require_idle,
    restore_as,
    restore_in_place,
    restore_into,
    undo,
)
from scriptorium.settings import Library, Settings
from scriptorium.sources import Source
from scriptorium.stores.backups import read_manifest

Advance = Callable[[int], None]


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
        safety=safety,
    )


def _supply(settings: Settings, order: RestoreOrder) -> Supply:
    store = settings.store(order.store)
    return Supply(store, order.key, read_manifest(store, order.key), order.only, order.rebuild)


def _library(settings: Settings, order: RestoreOrder) -> Library:
    """The library with the order's word on how its databases are restored."""
    library = settings.library(order.library)
    clean = order.clean and order.in_place
    sources = tuple(one.adapted(clean=clean, without_roles=order.without_roles) for one in library.sources)
    return library.model_copy(update={"sources": sources})


def plan_restore(settings: Settings, order: RestoreOrder) -> Plan:
    """Everything that can be known to stand in the way, as rows; changes nothing."""
    supply = _supply(settings, order)
    if order.into is not None:
        return plan_into(supply, order.into, clean=order.clean, never=_not_a_target(settings))
    if order.database:
        return plan_renamed(_library(settings, order), supply, order.database)
    return plan_in_place(_library(settings, order), supply, order.id, saving=settings if order.safety else None)


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
            return restore_as(_library(settings, order), supply, order.id, order.database, advance=advance)
        library = _library(settings, order)
        check = library.health
        healthy = None if check is None else lambda: require_healthy(check)
        with workspace.lock(settings, order.library, f"restore of {order.backup}"):
            recover(settings, library)
            return restore_in_place(settings, library, supply, order.id, healthy=healthy, advance=advance)


def check_undo(settings: Settings, library: str | None) -> tuple[str, str]:
    """What ``go_back`` would do: the library's name and the backup whose restore would be undone.

    ``NotFound`` when no former data is kept, ``LibraryBusy`` while the application holds the data open.
    """
    chosen = settings.library(library)
    journal = newest_kept(settings, chosen)
    require_idle(chosen)
    return chosen.name, journal.backup


def go_back(settings: Settings, library: str) -> str:
    """Put back what the newest restore replaced; returns the id of the backup that is undone."""
    chosen = settings.library(library)
    with workspace.lock(settings, library, "going back from a restore"):
        recover(settings, chosen)
        return undo(settings, chosen)


def _not_a_target(settings: Settings) -> tuple[Path, ...]:
    """What no folder to restore to may be or hold: our own folders, and what is living."""
    sources = [source for library in settings.libraries.values() for source in library.sources]
    living = [path for source in sources if isinstance(path := getattr(source, "path", None), Path)]
    return (*settings.never, *living)


def _sources(settings: Settings, library: str) -> dict[str, Source]:
    known = settings.libraries.get(library)
    return {source.name: source for source in known.sources} if known else {}
