"""Bringing a backup back, step by step: the work of the restore flow's tasks, callable without Prefect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import DamageFound, UsageError
from scriptorium.manifest import new_id
from scriptorium.rescue import Restored, Supply, preflight, recover, restore_in_place, restore_into
from scriptorium.settings import Settings
from scriptorium.sources import Source
from scriptorium.stores.backups import read_manifest

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """A restore that is to be done. ``into``: a folder; without one, the living data is replaced."""

    id: str
    backup: str
    library: str
    store: str
    key: str
    into: Path | None
    only: tuple[str, ...]
    rebuild: bool
    clean: bool


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
    if clean and into is None:
        raise UsageError("--clean goes with --restore-path; in place, the living data is always replaced")
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
    )


def _supply(settings: Settings, order: RestoreOrder) -> Supply:
    store = settings.store(order.store)
    return Supply(store, order.key, read_manifest(store, order.key), order.only, order.rebuild)


def check_way(settings: Settings, order: RestoreOrder) -> None:
    """What stands in the way of a restore in place is said before the safety backup is taken."""
    if order.into is None:
        preflight(settings.library(order.library), _supply(settings, order))


def bring_back(settings: Settings, order: RestoreOrder, *, advance: Advance | None = None) -> Restored:
    """Do it. On any failure what was there before is there again."""
    supply = _supply(settings, order)
    with workspace.reading(settings, order.backup):
        if order.into is not None:
            sources = _sources(settings, order.library)
            return restore_into(supply, order.into, order.id, sources=sources, clean=order.clean, advance=advance)
        library = settings.library(order.library)
        with workspace.lock(settings, order.library, f"restore of {order.backup}"):
            recover(settings, library)
            return restore_in_place(settings, library, supply, order.id, advance=advance)


def _sources(settings: Settings, library: str) -> dict[str, Source]:
    known = settings.libraries.get(library)
    return {source.name: source for source in known.sources} if known else {}
