"""Whether a backup fits, before anything is written: what each filesystem must take, and what is there.

A source is copied into the workspace first where there is room for that, since it is then held still for the shortest
time. Where there is not, those that can be are read straight into the archive.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scriptorium import wording
from scriptorium.fs import free_space
from scriptorium.fs.free_space import MARGIN, device_of, free_bytes
from scriptorium.model import Compression, Streams
from scriptorium.settings import Library, Settings
from scriptorium.workspace.locks import root

log = logging.getLogger(__name__)


def has_space(folder: Path, needed: int) -> bool:
    """Whether ``folder``'s filesystem has ``needed`` bytes and a margin free."""
    return free_bytes(folder) >= needed + MARGIN


def require_space(folder: Path, needed: int, what: str) -> None:
    """``NoSpace`` unless ``folder``'s filesystem has ``needed`` bytes and a margin free."""
    hint = "free some space, run cleanup, or set 'workspace' to a larger filesystem"
    free_space.require_space(folder, needed, what, hint, margin=MARGIN)


@dataclass(frozen=True, slots=True)
class Space:
    """What fits. ``archive``: its estimated bytes; ``streamed``: the sources that are not copied into the
    workspace, by name; ``bytes``: what is expected to be read."""

    archive: int
    streamed: tuple[str, ...] = ()
    bytes: int | None = field(default=None, compare=False)


def find_space(
    settings: Settings,
    library: Library,
    sources: Sequence[str],
    stores: Sequence[str],
    compression: Compression | None = None,
) -> Space:
    """Check that the workspace and the local stores can take a backup of ``sources``, with as few of them streamed as
    must be. ``NoSpace`` where it does not fit even so.

    The estimate is what there is on the disk, uncompressed: a library of books hardly shrinks, but for the holes of
    sparse files, which only an archive without compression has as zeros. ``space_factor`` corrects it.
    """
    chosen = [source for source in library.sources if source.name in sources]
    surveys = {source.name: source.survey(settings.never_of(library, source)) for source in chosen}
    whole = (compression or settings.compression) is Compression.NONE
    read = sum(survey.bytes - (0 if whole else survey.holes) for survey in surveys.values())
    archive = int(read * settings.space_factor)
    folder = root(settings)
    home = device_of(folder)
    needed, places = _archives(settings, stores, archive, folder)
    staged = {name: one.staged_bytes for name, one in surveys.items() if one.streams is not Streams.ALWAYS}
    for name in sorted(staged, key=staged.__getitem__, reverse=True):
        if has_space(folder, needed[home] + sum(staged.values())):
            break
        if surveys[name].streams is Streams.WHERE_SHORT:
            del staged[name]
    needed[home] += sum(staged.values())
    for device, (place, what) in places.items():
        require_space(place, needed[device], what)
    streamed = tuple(name for name in surveys if name not in staged)
    for name, survey in surveys.items():
        log.info("%s has %s in %s files", name, wording.size(survey.bytes), f"{survey.files:,}")
    log.info(
        "the archive is estimated at %s; %s free in the workspace", *map(wording.size, (archive, free_bytes(folder)))
    )
    if streamed:
        log.info("no space for a copy in the workspace: %s read straight into the archive", ", ".join(streamed))
    return Space(archive, streamed, sum(survey.bytes for survey in surveys.values()))


def _archives(
    settings: Settings, stores: Sequence[str], archive: int, folder: Path
) -> tuple[dict[int, int], dict[int, tuple[Path, str]]]:
    """By filesystem: the bytes of all copies of the archive, and what to call them."""
    needed = {device_of(folder): archive}
    places = {device_of(folder): (folder, "the backup")}
    handed_over = False  # the first store beside the workspace takes the finished archive as it is
    for name in stores:
        inside = settings.store(name).local_path("x")
        if inside is None:
            continue
        device = device_of(inside.parent)
        if device == device_of(folder) and not handed_over:
            handed_over = True
            continue
        needed[device] = needed.get(device, 0) + archive
        places.setdefault(device, (inside.parent, f"the copy in the store {name}"))
    return needed, places
