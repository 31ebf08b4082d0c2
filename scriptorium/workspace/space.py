"""Whether a backup fits, checked before anything is written: the space that each filesystem needs and has.

A source is copied into the workspace first where there is space for that, because this holds it still for the shortest
time. Otherwise the sources that can be streamed are read straight into the packages of the stores.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium import wording
from scriptorium.errors import STORE_TROUBLE
from scriptorium.fs import free_space
from scriptorium.fs.free_space import MARGIN, device_of, free_bytes
from scriptorium.model import Streams, Survey
from scriptorium.settings import Library, Settings
from scriptorium.stores import BackupStore, Packaging
from scriptorium.words import Compression
from scriptorium.workspace.locks import root

log = logging.getLogger(__name__)


def has_space(folder: Path, needed: int) -> bool:
    """Whether ``folder``'s filesystem has ``needed`` bytes and a margin free."""
    return free_space.has_space(folder, needed, margin=MARGIN)


def require_space(folder: Path, needed: int, what: str) -> None:
    """``NoSpace`` unless ``folder``'s filesystem has ``needed`` bytes and a margin free."""
    hint = "free some space, run cleanup, or set 'workspace' to a larger filesystem"
    free_space.require_space(folder, needed, what, hint, margin=MARGIN)


@dataclass(frozen=True, slots=True)
class Space:
    """What fits. ``copies``: the estimated bytes of the copy in each store, by its name; ``streamed``: the
    sources that are not copied into the workspace, by name; ``bytes``: what is expected to be read."""

    copies: Mapping[str, int]
    streamed: tuple[str, ...] = ()
    bytes: int | None = field(default=None, compare=False)


def find_space(
    settings: Settings,
    library: Library,
    sources: Sequence[str],
    stores: Sequence[str],
    compression: Compression | None = None,
    *,
    surveys: Mapping[str, Survey] | None = None,
) -> Space:
    """Check that the workspace and the stores on this machine can take a backup of ``sources``, with as few of them
    streamed as possible. ``NoSpace`` where it does not fit even so. ``surveys``: of the sources, where they were
    surveyed just now.

    The estimate is the size on the disk, in the form that each store keeps; ``space_factor`` corrects it.
    """
    chosen = [source for source in library.sources if source.name in sources]
    if surveys is None:
        surveys = {source.name: source.survey(settings.never_of(library, source)) for source in chosen}
    whole, holes = (sum(found) for found in zip(*((one.bytes, one.holes) for one in surveys.values()), strict=True))
    targets = [settings.store(name) for name in stores]
    packagings = {store.name: store.packaging(compression or settings.compression) for store in targets}
    sizes = {way: int(way.estimate(whole, holes) * settings.space_factor) for way in packagings.values()}
    folder = root(settings)
    home = device_of(folder)
    new = sum(one.staged_bytes for one in surveys.values())
    copies = {
        store.name: min(new, sizes[packagings[store.name]])
        if _has_most(store, library.name)
        else sizes[packagings[store.name]]
        for store in targets
    }
    needed, places = _copies(targets, packagings, sizes, copies, folder)
    may_stream = all(store.features.streams for store in targets)
    always = {name for name, one in surveys.items() if may_stream and one.streams is Streams.ALWAYS}
    staged = {name: one.staged_bytes for name, one in surveys.items() if name not in always}
    for name in sorted(staged, key=staged.__getitem__, reverse=True):
        if has_space(folder, needed[home] + sum(staged.values())):
            break
        if may_stream and surveys[name].streams is Streams.WHERE_SHORT:
            del staged[name]
    needed[home] += sum(staged.values())
    for device, (place, what) in places.items():
        require_space(place, needed[device], what)
    streamed = tuple(name for name in surveys if name not in staged)
    for name, survey in surveys.items():
        log.info("%s has %s in %s files", name, wording.size(survey.bytes), f"{survey.files:,}")
    for name, size in copies.items():
        log.info("the copy in %s is estimated at %s", name, wording.size(size))
    log.info("%s free in the workspace", wording.size(free_bytes(folder)))
    if streamed:
        log.info("no space for a copy in the workspace: %s is read while it is stored", ", ".join(streamed))
    return Space(copies, streamed, whole)


def _has_most(store: BackupStore, library: str) -> bool:
    """Whether a store keeps equal contents once, and has earlier backups: then only what is new needs space, of which
    no more is known than what is staged (dumps). One that does not answer gets no copy, and needs none."""
    if not store.features.deduplicates:
        return False
    try:
        return any(True for _ in store.list(library))
    except STORE_TROUBLE:
        return True


def _copies(
    stores: Sequence[BackupStore],
    packagings: Mapping[str, Packaging],
    sizes: Mapping[Packaging, int],
    copies: Mapping[str, int],
    folder: Path,
) -> tuple[dict[int, int], dict[int, tuple[Path, str]]]:
    """By filesystem: the bytes of all copies and packages, and what to call them."""
    home = device_of(folder)
    needed = {home: sum(size for packaging, size in sizes.items() if packaging.in_workspace)}
    places = {home: (folder, "the backup")}
    handed_over: set[Packaging] = set()  # the first store beside the workspace takes a finished package as it is
    for store in stores:
        if store.folder is None:
            continue
        device, packaging = device_of(store.folder), packagings[store.name]
        if store.features.takes_over and device == home and packaging not in handed_over:
            handed_over.add(packaging)
            continue
        needed[device] = needed.get(device, 0) + copies[store.name]
        places.setdefault(device, (store.folder, f"the copy in the store {store.name}"))
    return needed, places
