"""The stores themselves: their state, making them, examining them."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence

from scriptorium import workspace
from scriptorium.catalog import Catalog
from scriptorium.errors import STORE_TROUBLE, Protected
from scriptorium.results import StoreFinding, StoreState
from scriptorium.settings import Settings
from scriptorium.stores import BackupStore, care

log = logging.getLogger(__name__)


def states(settings: Settings, chosen: Sequence[str] = ()) -> tuple[StoreState, ...]:
    """The state of every store, or of the chosen ones. One that does not answer has its error."""
    return tuple(_state(settings, store) for store in _chosen(settings, chosen))


def _chosen(settings: Settings, chosen: Sequence[str]) -> list[BackupStore]:
    return [settings.store(name) for name in dict.fromkeys(chosen or settings.stores)]


def _state(settings: Settings, store: BackupStore) -> StoreState:
    features = dataclasses.asdict(store.features)
    state = StoreState(store.name, store.kind, features)
    listing = Catalog(settings).listing(store=store.name, records=False)
    if listing.problems:
        return dataclasses.replace(state, error="; ".join(problem.error for problem in listing.problems))
    try:
        used, free = store.usage()
    except STORE_TROUBLE as error:
        return dataclasses.replace(state, error=error.exact)
    newest = max((backup.created_at for backup in listing.backups), default=None)
    return dataclasses.replace(state, used=used, free=free, backups=len(listing.backups), newest=newest)


def initialize(settings: Settings, chosen: Sequence[str] = ()) -> Iterator[StoreFinding]:
    """Make the place of every store, or of the chosen ones, where it is not there; also where it was on another disk
    before."""
    for store in _chosen(settings, chosen):
        workspace.forget_mounted(settings, store.name)
        try:
            yield StoreFinding(store.name, "made ready", care.initialize(store))
        except STORE_TROUBLE as error:
            yield _of(store, care.trouble_of(error))


def examine(settings: Settings, chosen: Sequence[str] = (), *, try_delete: bool = False) -> Iterator[StoreFinding]:
    """Look at every store, or at the chosen ones: whether it does what its settings say."""
    for store in _chosen(settings, chosen):
        for found in care.examine(store, try_delete=try_delete):
            yield _of(store, found)


def _of(store: BackupStore, found: care.Finding) -> StoreFinding:
    return StoreFinding(store.name, found.what, found.found, found.good, found.hint)


def reclaim(settings: Settings) -> Mapping[str, str]:
    """Free the space of what was removed, in the stores that do that in a step of its own. Returns the stores in which
    that was not possible now, with the reason; a later cleanup tries again."""
    waiting: dict[str, str] = {}
    for name in workspace.unreclaimed(settings):
        store, began = settings.store(name), time.monotonic()
        try:
            if isinstance(store, care.Reclaiming):
                store.reclaim()
                log.info("%s: the space of what was removed is free, in %.1f s", name, time.monotonic() - began)
            workspace.note_reclaimed(settings, name)
        except (*STORE_TROUBLE, Protected) as error:
            log.warning("%s: the space of what was removed is not free yet: %s", name, error)
            waiting[name] = error.exact
    return waiting
